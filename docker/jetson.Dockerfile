# edge_vision for NVIDIA Jetson with JetPack 6 (Orin; L4T r36.4).
# JetPack 6 is Ubuntu 22.04, ROS 2 Jazzy is packaged for 24.04 alone. A container shares only the kernel and, by --runtime nvidia,
# the driver with the host, so this base is Ubuntu 24.04 on L4T r36.4: CUDA 12.8, TensorRT with its Python 3.12 package, OpenCV with
# GStreamer, and Jazzy built from source, by jetson-containers. NVIDIA's own l4t-jetpack:r36.4.0 is 22.04 and would mean ROS 2 Humble.
# JetPack 5 and 4 (Xavier, Nano) have CUDA 11 and 10 with Python 3.8 and 3.6: too old for this package.
#   docker build -f docker/jetson.Dockerfile -t edge_vision:jetson .        (on the Jetson; its docker needs 10 GB)
ARG BASE=dustynv/ros:jazzy-ros-base-r36.4.0-cu128-24.04
FROM ${BASE}

# PIP_INDEX_URL: the base points pip at its own index, which has moved; PyPI has what is added here.
ENV EDGE_VISION_CACHE=/var/cache/edge_vision \
    PYTHONUNBUFFERED=1 \
    PIP_INDEX_URL=""

# Dependencies in a layer of their own, which a change of the sources leaves alone.
RUN --mount=type=bind,source=docker,target=/source/docker \
    --mount=type=bind,source=package.xml,target=/source/package.xml \
    --mount=type=bind,source=pyproject.toml,target=/source/pyproject.toml \
    /source/docker/install.sh dependencies ncnn
RUN --mount=type=bind,target=/source /source/docker/install.sh build && /source/docker/install.sh user
COPY docker/entrypoint.sh docker/healthcheck.sh /usr/local/bin/

USER 1000:1000
WORKDIR /home/edge_vision
VOLUME /var/cache/edge_vision
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["/usr/local/bin/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["hardware:=jetson"]
