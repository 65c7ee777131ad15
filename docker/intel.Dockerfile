# edge_vision with the user-space drivers of Intel's GPUs and NPUs. The kernel's drivers (i915 or xe, intel_vpu) and the NPU's
# firmware are the host's; the NPU driver and OpenVINO of one time go together.
#   docker build -f docker/intel.Dockerfile -t edge_vision:intel .
ARG BASE=ros:jazzy-ros-base-noble
FROM ${BASE}

ENV EDGE_VISION_CACHE=/var/cache/edge_vision \
    PYTHONUNBUFFERED=1

# Ubuntu's own intel-opencl-icd (23.43) ends with Meteor Lake, so Intel's releases are taken.
ARG IGC=https://github.com/intel/intel-graphics-compiler/releases/download/v2.32.7
ARG NEO=https://github.com/intel/compute-runtime/releases/download/26.14.37833.4
ARG LEVEL_ZERO=https://github.com/oneapi-src/level-zero/releases/download/v1.28.6/libze1_1.28.6+u24.04_amd64.deb
ARG NPU=https://github.com/intel/linux-npu-driver/releases/download/v1.32.1/linux-npu-driver-v1.32.1.20260422-24767473183-ubuntu2404.tar.gz
RUN --mount=type=bind,source=docker,target=/source/docker \
    /source/docker/install.sh packages \
      "${IGC}/intel-igc-core-2_2.32.7+21184_amd64.deb" \
      "${IGC}/intel-igc-opencl-2_2.32.7+21184_amd64.deb" \
      "${NEO}/libigdgmm12_22.9.0_amd64.deb" \
      "${NEO}/intel-opencl-icd_26.14.37833.4-0_amd64.deb" \
      "${NEO}/libze-intel-gpu1_26.14.37833.4-0_amd64.deb" \
      "${LEVEL_ZERO}" \
      "${NPU}"

# Dependencies in a layer of their own, which a change of the sources leaves alone.
RUN --mount=type=bind,source=docker,target=/source/docker \
    --mount=type=bind,source=package.xml,target=/source/package.xml \
    --mount=type=bind,source=pyproject.toml,target=/source/pyproject.toml \
    /source/docker/install.sh dependencies openvino litert ncnn
RUN --mount=type=bind,target=/source /source/docker/install.sh build && /source/docker/install.sh user
COPY docker/entrypoint.sh docker/healthcheck.sh /usr/local/bin/

USER 1000:1000
WORKDIR /home/edge_vision
VOLUME /var/cache/edge_vision
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["/usr/local/bin/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["hardware:=auto"]
