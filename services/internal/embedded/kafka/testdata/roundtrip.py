"""Produce 300 records and read them back with a group, twice: the second member finds everything committed."""

import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

broker, topic, group, total = sys.argv[1], "python", "python-group", 300

admin = AdminClient({"bootstrap.servers": broker})
admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)])[topic].result(20)

failed = []
producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "compression.type": "lz4"})
for i in range(total):
    producer.produce(topic, key=str(i % 7), value=str(i), headers={"n": str(i)},
                     on_delivery=lambda err, _: failed.append(err) if err else None)
assert producer.flush(30) == 0, "records were left in the queue"
assert not failed, failed


def consumer():
    c = Consumer({"bootstrap.servers": broker, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    c.subscribe([topic])
    return c


c, seen, last = consumer(), set(), {}
while len(seen) < total:
    m = c.poll(20)
    assert m is not None, f"only {len(seen)} records came"
    assert not m.error(), m.error()
    assert int(m.value()) > last.get(m.key(), -1), "records of one key came out of order"
    assert dict(m.headers())["n"] == m.value()
    last[m.key()] = int(m.value())
    seen.add(m.value())
c.commit(asynchronous=False)
c.close()

c = consumer()
offsets = c.committed([TopicPartition(topic, p) for p in range(3)], timeout=20)
committed = sum(max(o.offset, 0) for o in offsets)
assert c.poll(3) is None, "a committed record came again"
c.close()
print(f"{len(seen)} records, committed {committed}")
