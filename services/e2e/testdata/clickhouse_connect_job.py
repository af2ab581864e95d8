"""What a data scientist does with clickhouse-connect: argv is the address with its password and a workspace id."""

import datetime
import sys
from urllib.parse import urlparse

import clickhouse_connect

address, workspace = urlparse(sys.argv[1]), sys.argv[2]
client = clickhouse_connect.get_client(
    host=address.hostname, port=address.port, username=address.username, password=address.password, database="mekong", compress="lz4"
)
facts = client.query(
    "SELECT event_name, count() AS n FROM fact_events WHERE workspace_id = {w:String} GROUP BY event_name ORDER BY event_name",
    parameters={"w": workspace},
)
assert facts.column_names == ("event_name", "n"), facts.column_names
assert len(facts.result_rows) == 1 and facts.result_rows[0][0] == "Product Viewed" and facts.result_rows[0][1] >= 50, facts.result_rows

client.command("CREATE OR REPLACE TABLE py_scores (id UInt32, name String, tags Array(String), score Nullable(Float64), at DateTime64(3, 'UTC')) "
               "ENGINE = MergeTree ORDER BY id")
at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
rows = [[i, f"ngưới {i}", ["a", str(i)], None if i % 3 == 0 else i / 4, at] for i in range(20000)]
for first in range(0, len(rows), 5000):
    client.insert("py_scores", rows[first:first + 5000], column_names=["id", "name", "tags", "score", "at"])
got = client.query("SELECT id, name, tags, score FROM py_scores ORDER BY id").result_rows
assert [list(row) for row in got] == [row[:4] for row in rows], "rows came back different"
assert client.query("SELECT sum(score) FROM py_scores").result_rows[0][0] == sum(i / 4 for i in range(20000) if i % 3)
with client.query_row_block_stream("SELECT number FROM numbers(500000)") as stream:
    assert sum(len(block) for block in stream) == 500000
client.command("DROP TABLE py_scores")
print("ok")
