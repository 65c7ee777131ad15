# edge_vision on the CPU of any x86-64 machine (an ARM server too: the base image has both).
#   docker build -f docker/cpu.Dockerfile -t edge_vision:cpu .
ARG BASE=ros:jazzy-ros-base-noble
FROM ${BASE}

ENV EDGE_VISION_CACHE=/var/cache/edge_vision \
    PYTHONUNBUFFERED=1

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
