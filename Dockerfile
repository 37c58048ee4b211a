# The server and the example balancer, in an image without a shell.
#
#   docker build -t ez-api .
#   docker run -p 8080:8080 -v ezapi-data:/data ez-api
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o /out/ ./cmd/server ./examples/balancer \
 && mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/server /out/balancer /usr/local/bin/
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532
ENV EZ_API_ADDR=0.0.0.0 EZ_DATA_DIR=/data PATH=/usr/local/bin
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["server"]
