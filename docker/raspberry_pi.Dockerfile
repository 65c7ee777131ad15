# edge_vision for a Raspberry Pi (3, 4, 5, Zero 2 W, Compute Modules) with a 64-bit system, Raspberry Pi OS included.
# Jazzy has no packages for Raspberry Pi OS (Debian), so this is how it gets there. Build it on the Pi 4 or 5, or elsewhere with
# docker buildx build --platform linux/arm64.
#   docker build -f docker/raspberry_pi.Dockerfile -t edge_vision:raspberry_pi .
ARG BASE=arm64v8/ros:jazzy-ros-base-noble
FROM ${BASE}

ENV EDGE_VISION_CACHE=/var/cache/edge_vision \
    PYTHONUNBUFFERED=1

# Dependencies in a layer of their own, which a change of the sources leaves alone.
RUN --mount=type=bind,source=docker,target=/source/docker \
    --mount=type=bind,source=package.xml,target=/source/package.xml \
    --mount=type=bind,source=pyproject.toml,target=/source/pyproject.toml \
    /source/docker/install.sh dependencies ncnn litert openvino
RUN --mount=type=bind,target=/source /source/docker/install.sh build && /source/docker/install.sh user
COPY docker/entrypoint.sh docker/healthcheck.sh /usr/local/bin/

USER 1000:1000
WORKDIR /home/edge_vision
VOLUME /var/cache/edge_vision
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["/usr/local/bin/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["hardware:=raspberry_pi", "source:=/dev/video0"]
