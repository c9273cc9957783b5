# Two images out of one file:
#
#   docker build --target serve -t lastgood-serve .   the gateway with its replicas, and the replica of `backend = "docker"`
#   docker build --target train -t lastgood-train .   flows, workers and the command line, with TensorFlow
#
# Both run as user 65532 and need no writable root: give them a folder or volume at /var/lib/lastgood and a tmpfs at /tmp.
# A project's lastgood.toml and pipelines belong into /project.
#
# Another index than PyPI: --secret id=pip,src=PIP.CONF; it stays out of the image. None at all: --build-arg WHEELHOUSE=IMAGE, an
# image that holds the wheels at its root, with --build-arg PIP_NO_INDEX=1 --network none.
# What every request passes through is compiled, which takes a C compiler; --build-arg LASTGOOD_COMPILE=0 does without.
ARG BASE=python:3.11-slim-bookworm
ARG BUILDER=python:3.11-bookworm
ARG WHEELHOUSE=scratch

# hadolint ignore=DL3006
FROM ${WHEELHOUSE} AS wheelhouse

# hadolint ignore=DL3006
FROM ${BUILDER} AS wheel
ARG LASTGOOD_COMPILE=1
ARG PIP_NO_INDEX=
# The tools that build the wheel are pinned too.
ENV PIP_CONSTRAINT=/source/constraints.txt
WORKDIR /source
RUN --mount=type=bind,target=/source,rw \
    --mount=type=bind,from=wheelhouse,target=/wheelhouse \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python -m pip wheel --no-deps --find-links /wheelhouse --wheel-dir /wheels .

# hadolint ignore=DL3006
FROM ${BASE} AS serve-packages
ARG PIP_NO_INDEX=
ARG SERVE_EXTRAS=
RUN python -m venv --without-pip /opt/lastgood
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,from=wheelhouse,target=/wheelhouse \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/lastgood/bin/python install --find-links /wheels --find-links /wheelhouse \
        --constraint /constraints.txt "$(echo /wheels/lastgood-*.whl)${SERVE_EXTRAS:+[$SERVE_EXTRAS]}"

# hadolint ignore=DL3006
FROM ${BASE} AS train-packages
ARG PIP_NO_INDEX=
ARG TRAIN_EXTRAS=train,flows,ci
RUN python -m venv --without-pip /opt/lastgood
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,from=wheelhouse,target=/wheelhouse \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/lastgood/bin/python install --find-links /wheels --find-links /wheelhouse \
        --constraint /constraints.txt "$(echo /wheels/lastgood-*.whl)[${TRAIN_EXTRAS}]"

# hadolint ignore=DL3006
FROM ${BASE} AS account
RUN echo "lastgood:x:65532:65532::/var/lib/lastgood:/usr/sbin/nologin" >> /etc/passwd \
    && echo "lastgood:x:65532:" >> /etc/group \
    && mkdir -p /var/lib/lastgood /project \
    && chown 65532:65532 /var/lib/lastgood
ENV PATH=/opt/lastgood/bin:$PATH \
    HOME=/var/lib/lastgood \
    LASTGOOD_HOME=/var/lib/lastgood \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /project
USER 65532:65532

FROM account AS train
COPY --from=train-packages /opt/lastgood /opt/lastgood
ENV DO_NOT_TRACK=1 \
    PREFECT_HOME=/var/lib/lastgood/prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false
CMD ["prefect", "worker", "start", "--pool", "lastgood"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lastgood-train" \
    org.opencontainers.image.description="Trains, compresses, gates and registers model versions." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM account AS serve
COPY --from=serve-packages /opt/lastgood /opt/lastgood
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('LASTGOOD_PORT_CONTROL') or 8002}/healthz\", timeout=4)"]
CMD ["python", "-m", "lastgood.serving.gateway"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lastgood-serve" \
    org.opencontainers.image.description="Serves model versions and takes them back: the gateway and its replicas." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
