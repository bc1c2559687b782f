#!/usr/bin/env python3
"""Takes one OTLP export as JSON over HTTP, reads it with OpenTelemetry's own schema, and prints its metrics: name, kind, points.

usage: otlp_receiver.py URL_FILE (its address is written there)
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/metrics" and self.headers["content-type"] == "application/json"
        # An unknown field, or a number of the wrong type, is an error.
        request = json_format.Parse(body, ExportMetricsServiceRequest())
        for of_resource in request.resource_metrics:
            attributes = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
            assert attributes["service.name"] == "chpipe", attributes
            for scope in of_resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    points = getattr(metric, kind).data_points
                    assert points and all(point.time_unix_nano >= point.start_time_unix_nano > 0 for point in points), metric.name
                    if kind == "histogram":
                        assert all(len(point.bucket_counts) == len(point.explicit_bounds) + 1 for point in points), metric.name
                        assert all(sum(point.bucket_counts) == point.count for point in points), metric.name
                    print(metric.name, kind, len(points), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    url = Path(sys.argv[1])
    partial = url.with_suffix(".part")
    partial.write_text(f"http://127.0.0.1:{server.server_port}/v1/metrics")
    partial.rename(url)
    server.handle_request()
