# edge_vision with CUDA and TensorRT for NVIDIA GPUs in a PC or server (x86-64).
# The base has Ubuntu 24.04, CUDA 12.8, TensorRT 10.9 and its Python package; the host needs driver 570 or later and the NVIDIA
# Container Toolkit. ROS comes from packages.ros.org, since no image has both.
#   docker build -f docker/nvidia.Dockerfile -t edge_vision:nvidia .
ARG BASE=nvcr.io/nvidia/tensorrt:25.03-py3
FROM ${BASE}

ENV EDGE_VISION_CACHE=/var/cache/edge_vision \
    PYTHONUNBUFFERED=1 \
    ROS_DISTRO=jazzy \
    LANG=C.UTF-8 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video

RUN --mount=type=bind,source=docker,target=/source/docker /source/docker/install.sh ros

# ONNX Runtime's wheel for CUDA 12, cuDNN 9 and TensorRT 10, in the place of that for the CPU.
ARG ONNXRUNTIME=onnxruntime-gpu==1.22.0
# Dependencies in a layer of their own, which a change of the sources leaves alone.
RUN --mount=type=bind,source=docker,target=/source/docker \
    --mount=type=bind,source=package.xml,target=/source/package.xml \
    --mount=type=bind,source=pyproject.toml,target=/source/pyproject.toml \
    /source/docker/install.sh dependencies --onnxruntime "${ONNXRUNTIME}" openvino
RUN --mount=type=bind,target=/source /source/docker/install.sh build && /source/docker/install.sh user
COPY docker/entrypoint.sh docker/healthcheck.sh /usr/local/bin/

USER 1000:1000
WORKDIR /home/edge_vision
VOLUME /var/cache/edge_vision
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["/usr/local/bin/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["hardware:=auto"]
