# The server and the example balancer, in an image without a shell.
#
#   docker build -t ez-api --build-arg VERSION="$(git describe --always)" .
#   docker run -p 127.0.0.1:8080:8080 -v ezapi-data:/data ez-api
#
# It runs as user 65532 and keeps everything in /data, temporary files, too. Where the module proxy cannot be reached,
# name another: --build-arg GOPROXY=https://goproxy.cn,direct
FROM golang:1.26 AS build
ARG GOPROXY=https://proxy.golang.org,direct
ARG VERSION=
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
COPY go.mod go.sum ./
RUN go mod download
# The libraries that take longest to compile, in a layer that a change of our own code leaves as it is.
RUN go build modernc.org/sqlite github.com/jackc/pgx/v5/stdlib github.com/redis/go-redis/v9 \
    github.com/alicebob/miniredis/v2 github.com/danielgtaylor/huma/v2 github.com/coreos/go-oidc/v3/oidc \
    github.com/pressly/goose/v3 github.com/prometheus/client_golang/prometheus/promhttp
COPY . .
RUN go build -ldflags="-s -w -X github.com/ez-api/ez-api/cmd/internal/server.version=$VERSION" -o /root-fs/usr/local/bin/ ./cmd/server ./examples/balancer \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/ca-certificates.crt \
 && install -d -m 700 /root-fs/data

FROM scratch
COPY --from=build --chown=65532:65532 /root-fs/ /
USER 65532:65532
ENV EZ_API_ADDR=0.0.0.0 EZ_DATA_DIR=/data TMPDIR=/data PATH=/usr/local/bin
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["server", "-check"]
ENTRYPOINT ["server"]
