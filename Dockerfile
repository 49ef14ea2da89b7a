# One image for a server and for AWS Lambda, for x86_64 and arm64 (`--platform`).
#
# Everything is installed by hash and nothing is fetched when it runs: DuckDB's extensions are in it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/webfoot
COPY requirements-aws.txt ./
RUN /opt/webfoot/bin/pip install --no-cache-dir --require-hashes --requirement requirements-aws.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY app ./app
RUN /opt/webfoot/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
RUN /opt/webfoot/bin/webfoot extensions bake --target /opt/duckdb_extensions httpfs postgres aws
# What no file's time can make stale: a start that compiles takes three to four times as long.
RUN /opt/webfoot/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/webfoot/lib

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --create-home webfoot
COPY --from=build /opt/webfoot /opt/webfoot
COPY --from=build /opt/duckdb_extensions /opt/duckdb_extensions
COPY deploy/start /usr/local/bin/start
COPY udfs /var/task/udfs
ENV PATH=/opt/webfoot/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WEBFOOT_FOLDER=/var/task/udfs
WORKDIR /var/task
USER webfoot
EXPOSE 8000
ENTRYPOINT ["start"]
CMD ["--host", "0.0.0.0", "--port", "8000"]
