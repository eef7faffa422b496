# A reranker over HTTP on a CPU, with the models inside; --index adds search, and `mcp` serves agents.
#
#   docker build -t biorerank .
#   docker run --rm -p 8080:8080 biorerank
#   docker run --rm -p 8080:8080 -v "$PWD/my-index:/index:ro" biorerank serve --host 0.0.0.0 --index /index
#   docker run --rm -i -v "$PWD/my-index:/index:ro" biorerank mcp --index /index

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# The usual PyTorch brings several gigabytes of CUDA on amd64. Its builds for CPUs have an index of their own, which
# pytorch.org/get-started/locally names: --build-arg TORCH_INDEX=ADDRESS takes torch from there.
ARG TORCH_INDEX=
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/biorerank \
    && /opt/biorerank/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY biorerank_plugins ./biorerank_plugins
COPY haystack_integrations ./haystack_integrations
RUN /opt/biorerank/bin/pip install --no-cache-dir -c constraints.txt ".[serve,mcp]"

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --create-home biorerank
COPY --from=build /opt/biorerank /opt/biorerank
ENV PATH=/opt/biorerank/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/biorerank
EXPOSE 8080
# Alive; whether it takes requests yet is GET /ready. The image has no curl.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('HEAD', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["biorerank"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
