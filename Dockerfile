# polyglance with everything that training on a GPU needs. Data and results are mounted:
#   docker build --tag polyglance .
#   docker run --rm --gpus all --volume "$PWD:/work" polyglance study run examples/micro.toml
# --build-arg EXTRAS=train,ray,mt installs other extras; --build-arg TORCH=cpu a torch without CUDA.
FROM python:3.11-slim
ARG EXTRAS=train
ARG TORCH=default
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN if [ "$TORCH" = cpu ]; then pip install --no-cache-dir --constraint constraints.txt torch \
        --index-url https://download.pytorch.org/whl/cpu; fi \
    && pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"
WORKDIR /work
ENTRYPOINT ["polyglance"]
