"""A gRPC client of kubelogs.storage.v1 that learns the service through reflection, as grpcurl does.

kubelogs_client.py ADDRESS write < entries.json      KL-5, entries as JSON objects
kubelogs_client.py ADDRESS prove                     KL-3 … KL-10, one check after the other
"""

import json
import sys
import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "kubelogs.storage.v1.StorageService"


class Client:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=10)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def call(self, method, service=SERVICE, **request):
        """Calls a method with a request in proto field names; returns the answer as a dictionary."""
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        message = json_format.ParseDict(request, message_factory.GetMessageClass(described.input_type)())
        answer_class = message_factory.GetMessageClass(described.output_type)
        call = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=answer_class.FromString,
        )
        answer = json_format.MessageToDict(
            call(message, timeout=10), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return answer

    def refusal(self, method, **request):
        try:
            answer = self.call(method, **request)
        except grpc.RpcError as error:
            return error.code()
        raise AssertionError(f"{method} {request} was answered: {answer}")


def write(client, entries):
    now = time.time_ns()
    for index, entry in enumerate(entries):
        entry.setdefault("timestamp_nanos", str(now + index))
    assert client.call("Write", entries=entries) == {"count": len(entries)}


def prove(client):
    services = client.database.get_services()
    assert SERVICE in services and "grpc.health.v1.Health" in services, services
    assert client.call("Check", service="grpc.health.v1.Health")["status"] == "SERVING"
    assert client.call("Stats")["total_entries"] == "0"

    hour, step = 3600 * 10**9, 10**6
    start = time.time_ns() - 2 * hour
    entries = [
        {
            "timestamp_nanos": str(start + i * step),
            "namespace": "prod" if i % 2 else "other",
            "pod": f"api-{i % 3}",
            "container": "main",
            "severity": i % 7,
            "message": f"request {i} timeout" if i % 10 == 0 else f"request {i} done",
            "attributes": {"trace": str(i)},
        }
        for i in range(100)
    ]
    write(client, entries)

    # Read your writes: Query directly after Write (KL-6).
    def query(**request):
        return client.call("Query", start_time_nanos=str(start), **request)

    def numbers(answer):
        return [int(entry["attributes"]["trace"]) for entry in answer["entries"]]

    assert numbers(query(limit=3)) == [99, 98, 97], "newest first by default"
    assert numbers(query(limit=3, order=1)) == [0, 1, 2], "order=1 is oldest first"
    assert numbers(query(limit=1000, order=1)) == list(range(100))
    assert numbers(query(end_time_nanos=str(start + 5 * step), order=1)) == [0, 1, 2, 3, 4], (
        "start inclusive, end exclusive"
    )
    assert numbers(query(search="timeout", order=1)) == list(range(0, 100, 10))
    assert all(number % 2 for number in numbers(query(namespace="prod")))
    assert numbers(query(pod="api-1", order=1, limit=2)) == [1, 4]
    assert all(number % 7 >= 5 for number in numbers(query(min_severity=5)))
    assert numbers(query(attributes={"trace": "42"})) == [42]

    # Pages in both directions: no row skipped, none twice.
    for order, cursor in ((0, "before_id"), (1, "after_id")):
        seen, page = [], query(limit=33, order=order)
        while True:
            seen += numbers(page)
            if not page["has_more"]:
                break
            page = query(limit=33, order=order, **{cursor: page["next_cursor"]})
        assert seen == sorted(range(100), reverse=order == 0), f"pages with {cursor}: {seen}"

    entry = query(limit=1)["entries"][0]
    assert client.call("GetByID", id=entry["id"])["entry"] == entry
    assert client.refusal("GetByID", id="1") == grpc.StatusCode.NOT_FOUND
    # FTS5's own syntax never reaches the engine: it is words to look for, or the client's mistake with its column.
    for raw in ("timeout AND", "NEAR(timeout done, 2)", "a:b*", "-timeout", "message:", "*"):
        try:
            query(search=raw)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "column" in error.details(), (raw, error)
    assert client.refusal("Query", search='"no end') == grpc.StatusCode.INVALID_ARGUMENT

    stats = client.call("Stats")
    assert stats["total_entries"] == "100" and int(stats["disk_size_bytes"]) > 0, stats
    assert (stats["oldest_entry_nanos"], stats["newest_entry_nanos"]) == (str(start), str(start + 99 * step)), stats
    assert client.call("Delete", older_than_nanos=str(start + 40 * step)) == {"deleted_count": "40"}
    assert numbers(query(order=1, limit=1)) == [40]
    assert client.call("Stats")["total_entries"] == "60"


def main():
    address, verb = sys.argv[1:]
    client = Client(address)
    if verb == "write":
        write(client, json.load(sys.stdin))
    else:
        prove(client)


if __name__ == "__main__":
    main()
