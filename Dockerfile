# A node of lalert. Built in one stage, run in another that holds neither compiler, build tools nor this checkout.
FROM python:3.13-slim-bookworm AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# The locked packages first: an edit of the source does not download them again.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m pip install --require-hashes -r requirements/build.txt
RUN python -m pip wheel --require-hashes --no-build-isolation --wheel-dir /wheels -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY lalert lalert
COPY adapters adapters
COPY schemas schemas
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m venv /opt/lalert
RUN /opt/lalert/bin/python -m pip install --no-index --no-deps /wheels/*.whl

FROM python:3.13-slim-bookworm
ENV PATH=/opt/lalert/bin:$PATH PYTHONUNBUFFERED=1 PYTHONUTF8=1
COPY --from=build /opt/lalert /opt/lalert
RUN useradd --system --uid 10001 --no-create-home lalert && install --directory --owner lalert --mode 0700 /data
USER lalert
VOLUME /data
EXPOSE 8080
# Ready means: the store takes alerts. A node that only answers is no use to anybody.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["lalert"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--data", "/data"]
