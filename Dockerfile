# flipsearch with everything that it runs on. torch comes from PyPI, built for CUDA; the driver is the host's.
FROM python:3.12-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Not root. `runs` has to exist with its owner: a new volume takes both over from here.
RUN useradd --uid 10001 --create-home flipsearch \
    && install --directory --owner=flipsearch --group=flipsearch /flipsearch /flipsearch/runs
WORKDIR /flipsearch

# First what changes rarely. The project itself installs nothing but its dependencies: it runs from its checkout.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --no-cache-dir --constraint constraints.txt .

COPY datasets datasets
COPY models models
COPY search search
COPY studies studies
COPY run_study.py docker-entrypoint.sh ./

USER flipsearch
# What is downloaded or computed once belongs to the volume, for all containers.
ENV XDG_CACHE_HOME=/flipsearch/runs/cache/home TORCH_HOME=/flipsearch/runs/cache/torch
ENTRYPOINT ["/flipsearch/docker-entrypoint.sh"]
CMD ["--help"]
