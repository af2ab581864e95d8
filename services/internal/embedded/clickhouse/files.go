package clickhouse

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/mekong-cdp/mekong/services/internal/platform/durable"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
)

// layout names what is in the data directory.
type layout string

func (d layout) store() string    { return filepath.Join(string(d), "store") }
func (d layout) work() string     { return filepath.Join(string(d), "work") } // working directory and generated configuration
func (d layout) temp() string     { return filepath.Join(string(d), "tmp") }
func (d layout) backups() string  { return filepath.Join(string(d), "backups") }
func (d layout) version() string  { return filepath.Join(string(d), "VERSION") }
func (d layout) password() string { return filepath.Join(string(d), "password") }
func (d layout) verified() string { return filepath.Join(string(d), "library.verified") }

// create makes the directories and empties the temporary one.
func (d layout) create() error {
	if err := os.RemoveAll(d.temp()); err != nil {
		return fileError(err, d.temp())
	}
	for _, dir := range []string{d.store(), d.work(), d.temp(), d.backups()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fileError(err, dir)
		}
	}
	return nil
}

func fileError(err error, path string) error {
	return errs.Wrap(err, errs.Unavailable, "disk_error", fmt.Sprintf("Reading or writing %s failed", path))
}

// loadPassword returns the owner's password, making one on first use.
func (d layout) loadPassword() (string, error) {
	text, err := os.ReadFile(d.password())
	if err == nil && len(bytes.TrimSpace(text)) > 0 {
		return string(bytes.TrimSpace(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fileError(err, d.password())
	}
	var raw [24]byte
	_, _ = rand.Read(raw[:]) // never fails
	password := hex.EncodeToString(raw[:])
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return "", fileError(err, string(d))
	}
	return password, durable.WriteFileAtomic(d.password(), []byte(password+"\n"), 0o600)
}

// checkVersion refuses data of a newer engine and writes down which engine has the data now.
func (d layout) checkVersion(engine string) error {
	text, err := os.ReadFile(d.version())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError(err, d.version())
	}
	data := strings.TrimSpace(string(text))
	if data == engine {
		return nil
	}
	if data != "" && newer(data, engine) {
		return errs.New(errs.Precondition, "data_too_new", fmt.Sprintf(
			"The data in %s was written by engine %s and this one is %s; install the newer engine again, or restore a backup into an empty directory",
			string(d), data, engine))
	}
	return durable.WriteFileAtomic(d.version(), []byte(engine+"\n"), 0o600)
}

// newer compares dotted version numbers.
func newer(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if x, y := part(as, i), part(bs, i); x != y {
			return x > y
		}
	}
	return false
}

func part(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}

// The merge pool is small, so the free entries that mutations and large merges wait for must be few as well: with the
// defaults of ClickHouse a mutation would wait for ever. fsync_* make an acknowledged insert survive a power cut;
// min_rows_to_fsync_after_merge does it for merged parts, before their sources are removed.
const serverConfig = `<clickhouse>
  <users_config>{{.Users}}</users_config>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{{.MaxMemory}}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <index_mark_cache_size>16777216</index_mark_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
  <mmap_cache_size>100</mmap_cache_size>
  <compiled_expression_cache_size>33554432</compiled_expression_cache_size>
  <query_condition_cache_size>16777216</query_condition_cache_size>
  <vector_similarity_index_cache_size>67108864</vector_similarity_index_cache_size>
  <max_thread_pool_size>500</max_thread_pool_size>
  <max_thread_pool_free_size>20</max_thread_pool_free_size>
  <background_pool_size>2</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_common_pool_size>2</background_common_pool_size>
  <background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
  <background_schedule_pool_size>8</background_schedule_pool_size>
  <background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
  <background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>
  <tables_loader_foreground_pool_size>2</tables_loader_foreground_pool_size>
  <tables_loader_background_pool_size>2</tables_loader_background_pool_size>
  <merge_tree>
    <fsync_after_insert>1</fsync_after_insert>
    <fsync_part_directory>1</fsync_part_directory>
    <min_rows_to_fsync_after_merge>1</min_rows_to_fsync_after_merge>
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>2</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>2</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>2</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
  </merge_tree>
  <backups><allowed_path>{{.Backups}}</allowed_path></backups>
</clickhouse>
`

const usersConfig = `<clickhouse>
  <profiles><default>
    <max_threads>{{.Threads}}</max_threads>
    <max_memory_usage>{{.QueryMemory}}</max_memory_usage>
    <max_bytes_before_external_group_by>{{.Spill}}</max_bytes_before_external_group_by>
    <max_bytes_before_external_sort>{{.Spill}}</max_bytes_before_external_sort>
    <max_execution_time>{{.ExecutionSeconds}}</max_execution_time>
    <http_max_tries>2</http_max_tries>
    <async_insert>0</async_insert>
    <log_queries>0</log_queries>
  </default></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password><profile>default</profile><quota>default</quota>
    <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
  </default></users>
</clickhouse>
`

// writeEngineConfig writes the files that the engine is started with. It is always told which file to read: it would
// otherwise pick up a config.xml of the working directory, of the home or of the system.
func (d layout) writeEngineConfig(c childConfig) (path string, err error) {
	values := map[string]any{
		"Users": filepath.Join(d.work(), "users.xml"), "Backups": d.backups(), "MaxMemory": c.MaxMemoryBytes, "Threads": c.MaxThreads,
		"QueryMemory": c.MaxQueryMemoryBytes, "Spill": c.MaxQueryMemoryBytes / 2, "ExecutionSeconds": int64(c.MaxExecutionTime.Seconds()),
	}
	for name, text := range map[string]string{"config.xml": serverConfig, "users.xml": usersConfig} {
		parsed, err := template.New(name).Parse(text)
		if err != nil {
			return "", err
		}
		var out bytes.Buffer
		if err := parsed.Execute(&out, escaped(values)); err != nil {
			return "", err
		}
		if err := durable.WriteFileAtomic(filepath.Join(d.work(), name), out.Bytes(), 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(d.work(), "config.xml"), nil
}

// escaped makes strings fit for XML text.
func escaped(values map[string]any) map[string]any {
	for k, v := range values {
		if s, ok := v.(string); ok {
			values[k] = template.HTMLEscapeString(s)
		}
	}
	return values
}
