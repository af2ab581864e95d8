"""confluent-kafka produces 1,000 records, and a group reads them back in two halves: argv is the broker and the topic."""

import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

broker, topic, total = sys.argv[1], sys.argv[2], 1000
admin = AdminClient({"bootstrap.servers": broker})
admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)])[topic].result(20)

failed = []
producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "compression.type": "zstd"})
for i in range(total):
    producer.produce(topic, key=f"device-{i % 11}", value=str(i), headers={"n": str(i)}, on_delivery=lambda err, _: failed.append(err) if err else None)
assert producer.flush(30) == 0, "records were left in the queue"
assert not failed, failed


def read(limit):
    """One member of the group: reads up to limit records, commits, leaves."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    values, last = [], {}
    while len(values) < limit:
        message = consumer.poll(20)
        assert message is not None, f"only {len(values)} of {limit} records came"
        assert not message.error(), message.error()
        assert dict(message.headers())["n"] == message.value()
        n = int(message.value())
        assert n > last.get(message.key(), -1), "records of one key came out of order"
        last[message.key()] = n
        values.append(n)
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


first = read(600)
rest = read(total - len(first))
assert sorted(first + rest) == list(range(total)), "a record was lost or came twice"
print("ok")
