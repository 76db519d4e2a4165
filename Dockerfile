# The image of one STS connector. Build: docker build -t dsai-sts-humeai .
# BASE: the same from a registry of your own, or pinned by its digest.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/sts-trio
WORKDIR /src
# Wheels only, each with its known hash: nothing is compiled, and nothing runs that was not pinned.
COPY requirements.txt requirements-build.txt ./
RUN pip install --only-binary :all: --require-hashes -r requirements-build.txt \
 && pip --python /opt/sts-trio install --only-binary :all: --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY sts_trio sts_trio
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . \
 && pip --python /opt/sts-trio install --no-index --no-deps /wheel/*.whl


FROM ${BASE}

COPY --from=build /opt/sts-trio /opt/sts-trio
ENV PATH=/opt/sts-trio/bin:$PATH
# The base image ships its library without byte code, and later nobody may write any: compile what we import, once.
RUN python -c "import sts_trio.cli, sts_trio.main, sts_trio.workers.supervisor, sts_trio.check, sts_trio.lab.demo, \
    sts_trio.providers.hume.link, sts_trio.providers.openai.provider" \
 && mkdir -p /usr/src/app/tools

# One BLAS thread: numpy is loaded by the resampler only, and else starts a thread for every core of the host.
ENV OPENBLAS_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="sts_trio" \
      org.opencontainers.image.description="Speech-to-speech connector for DSAI Core" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.authors="sts_trio contributors"
# The operator's tools are mounted at ./tools. Nothing is written here, or anywhere.
WORKDIR /usr/src/app
# Any other user, root included, works as well: all files are world-readable, none is owned by this one.
USER 10001:10001
EXPOSE 6039
STOPSIGNAL SIGTERM
# The panel gives a connector 15 s to become healthy; Docker probes for the first time after one interval.
HEALTHCHECK --interval=3s --timeout=2s --start-period=10s --retries=3 CMD [ \
    "python", "-ISc", \
    "import os, socket; host, port = os.environ.get('HOST', ''), os.environ.get('PORT', ''); line = socket.create_connection((host or '127.0.0.1', int(port) if port.isdecimal() else 6039), 2); line.sendall(b'GET /health HTTP/1.1\\r\\nHost: health\\r\\nConnection: close\\r\\n\\r\\n'); answer = line.recv(64); print(answer); raise SystemExit(not answer.startswith(b'HTTP/1.1 200 '))" \
  ]
CMD ["sts-trio", "serve"]
