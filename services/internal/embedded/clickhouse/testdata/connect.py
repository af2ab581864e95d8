"""clickhouse-connect, unmodified, against the address in argv[1] (user and password in argv[2] and argv[3])."""

import datetime
import decimal
import sys
import uuid
from urllib.parse import urlparse

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

address = urlparse(sys.argv[1])
login = {"host": address.hostname, "port": address.port, "username": sys.argv[2], "password": sys.argv[3]}


def check(condition, what):
    if not condition:
        raise SystemExit("failed: " + what)


def fails(call, code):
    try:
        call()
    except DatabaseError as e:
        check(f"code: {code}" in str(e).lower() or f"code {code}" in str(e).lower(), f"expected code {code}, got {e}")
        return
    raise SystemExit(f"expected code {code}, got no error")


for compression in (False, "lz4", "zstd", "gzip", "br"):
    if compression == "br":
        try:
            import brotli  # noqa: F401
        except ImportError:
            continue
    client = clickhouse_connect.get_client(**login, database="mekong", compress=compression)
    check(client.ping(), "ping")
    check(client.command("SELECT 1") == 1, "command")
    client.command("DROP TABLE IF EXISTS py")
    client.command(
        "CREATE TABLE py (id UInt64, u UUID, s String, k LowCardinality(String), m Nullable(Int64), t Array(String), "
        "l Map(String, String), at DateTime64(3, 'UTC'), d Decimal(18, 4), f Bool) ENGINE = MergeTree ORDER BY id"
    )
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)  # the client gives UTC columns as naive times
    rows = [
        [i, uuid.UUID(int=i), "line\n\nfeed ơ" * (i % 3), f"k{i % 5}", None if i % 2 else -i, ["a", "\n\n"], {"a": str(i)}, at.replace(tzinfo=datetime.timezone.utc),
         decimal.Decimal("12.3456"), i % 2 == 0]
        for i in range(30000)
    ]
    summary = client.insert("py", rows, column_names=["id", "u", "s", "k", "m", "t", "l", "at", "d", "f"])
    check(summary.written_rows == 30000, f"written rows {summary.written_rows}")
    got = client.query("SELECT * FROM py ORDER BY id").result_rows
    for want, row in zip(rows, got, strict=True):
        want[7] = at
        check(list(row) == want, f"compression {compression}: {list(row)} is not {want}")
    check(client.query("SELECT * FROM py WHERE id = {i:UInt64}", parameters={"i": 7}).row_count == 1, "parameters")
    check(client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 777}).result_rows[0][0] == 777, "settings")
    check(client.query("SELECT * FROM py WHERE 0").row_count == 0, "empty")
    check(client.raw_query("SELECT 1", fmt="CSV") == b"1\n", "raw")
    client.raw_insert("py", column_names=["id", "s"], insert_block=b"1,a\n2,b\n", fmt="CSV")
    check(client.command("SELECT count() FROM py") == 30002, "raw insert")
    with client.query_row_block_stream("SELECT number FROM numbers(1000000)") as stream:
        check(sum(len(block) for block in stream) == 1000000, "stream")
    fails(lambda: client.query("SELECT * FROM no_such_table"), 60)
    fails(lambda: client.command("SET max_threads = 1"), 48)
    late = "SELECT number, toString(cityHash64(number)), throwIf(number = 250000, 'late trouble') FROM numbers(400000) SETTINGS max_threads = 1"
    fails(lambda: client.query(late), 395)
    client.close()

try:
    clickhouse_connect.get_client(**{**login, "password": "wrong"})
    raise SystemExit("a wrong password was accepted")
except DatabaseError as e:
    check("516" in str(e), str(e))
print("ok")
