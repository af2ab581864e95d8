package clickhouse

import (
	"sort"
	"strings"
)

// ownerSettings are the settings that a request of the owner may carry: what the clients send by themselves and what
// shapes formats, limits and plans. Settings that name files, hosts or users of the engine are not among them.
var ownerSettings = newNameSet(`
	max_threads max_insert_threads max_block_size max_insert_block_size min_insert_block_size_rows min_insert_block_size_bytes
	max_execution_time max_memory_usage max_rows_to_read max_bytes_to_read read_overflow_mode max_result_rows max_result_bytes
	result_overflow_mode timeout_overflow_mode max_rows_to_group_by group_by_overflow_mode max_bytes_before_external_group_by
	max_bytes_before_external_sort max_bytes_ratio_before_external_group_by max_bytes_ratio_before_external_sort
	max_rows_to_sort max_bytes_to_sort max_rows_in_set max_bytes_in_set max_rows_in_join max_bytes_in_join
	max_partitions_per_insert_block throw_on_max_partitions_per_insert_block max_query_size max_ast_depth max_ast_elements
	max_expanded_ast_elements max_parser_depth max_parser_backtracks max_temporary_columns max_columns_to_read
	max_read_buffer_size max_compress_block_size min_compress_block_size max_final_threads priority
	max_concurrent_queries_for_user min_execution_speed timeout_before_checking_execution_speed
	insert_deduplicate insert_deduplication_token deduplicate_blocks_in_dependent_materialized_views insert_null_as_default
	async_insert wait_for_async_insert wait_for_async_insert_timeout async_insert_busy_timeout_ms async_insert_max_data_size
	mutations_sync alter_sync lightweight_deletes_sync lightweight_delete_mode apply_mutations_on_fly optimize_throw_if_noop
	final do_not_merge_across_partitions_select_final optimize_move_to_prewhere optimize_read_in_order optimize_skip_unused_shards
	use_skip_indexes use_skip_indexes_if_final force_primary_key force_index_by_date force_data_skipping_indices use_query_cache
	enable_reads_from_query_cache enable_writes_to_query_cache query_cache_ttl use_uncompressed_cache use_query_condition_cache
	join_algorithm join_use_nulls join_default_strictness any_join_distinct_right_table_keys join_any_take_last_row
	max_bytes_ratio_before_external_join distributed_product_mode prefer_global_in_and_join transform_null_in
	aggregate_functions_null_for_empty group_by_use_nulls group_by_two_level_threshold totals_mode extremes empty_result_for_aggregation_by_empty_set
	allow_experimental_analyzer enable_analyzer allow_experimental_json_type enable_json_type allow_experimental_object_type
	allow_experimental_variant_type allow_experimental_dynamic_type allow_experimental_time_time64_type enable_time_time64_type
	allow_experimental_vector_similarity_index enable_vector_similarity_index hnsw_candidate_list_size_for_search
	allow_experimental_full_text_index enable_full_text_index allow_experimental_window_functions allow_suspicious_low_cardinality_types
	allow_suspicious_types_in_order_by allow_suspicious_types_in_group_by allow_nullable_key allow_simdjson allow_ddl
	allow_experimental_projection_optimization optimize_use_projections optimize_use_implicit_projections force_optimize_projection
	allow_experimental_refreshable_materialized_view allow_experimental_parallel_reading_from_replicas enable_parallel_replicas
	flatten_nested data_type_default_nullable default_table_engine describe_compact_output describe_include_subcolumns
	date_time_input_format date_time_output_format date_time_overflow_behavior session_timezone use_client_time_zone
	cast_keep_nullable cast_string_to_dynamic_use_inference cast_string_to_variant_use_inference
	cast_ipv4_ipv6_default_on_conversion_error schema_inference_use_cache_for_file compile_expressions compile_aggregate_expressions
	count_distinct_implementation count_distinct_optimization additional_table_filters additional_result_filter
	limit offset select_sequential_consistency log_comment log_queries send_logs_level send_progress_in_http_headers
	http_headers_progress_interval_ms http_write_exception_in_output_format http_wait_end_of_query http_response_buffer_size
	http_make_head_request output_format_pretty_color input_format_parallel_parsing output_format_parallel_formatting
	cancel_http_readonly_queries_on_client_close http_receive_timeout http_send_timeout receive_timeout send_timeout
	connect_timeout http_connection_timeout interactive_delay replace_running_query add_http_cors_header network_zstd_compression_level
	function_json_value_return_type_allow_nullable function_json_value_return_type_allow_complex function_sleep_max_microseconds_per_block
	materialized_views_ignore_errors parallel_view_processing partial_merge_join_rows_in_right_blocks dictionary_use_async_executor
	format_csv_delimiter format_csv_null_representation format_csv_allow_single_quotes format_csv_allow_double_quotes
	format_tsv_null_representation format_binary_max_string_size format_binary_max_array_size format_regexp
	format_regexp_escaping_rule format_custom_escaping_rule format_custom_field_delimiter format_custom_row_before_delimiter
	format_custom_row_after_delimiter format_custom_row_between_delimiter format_custom_result_before_delimiter
	format_custom_result_after_delimiter format_json_object_each_row_column_for_object_name
	low_cardinality_max_dictionary_size low_cardinality_use_single_dictionary_for_part
	type_json_skip_duplicated_paths json_type_escape_dots_in_keys`)

// readerSettings may also be sent by readers: they change only how an answer looks.
var readerSettings = newNameSet(`
	extremes date_time_input_format date_time_output_format session_timezone use_client_time_zone log_comment join_use_nulls
	send_progress_in_http_headers http_headers_progress_interval_ms http_write_exception_in_output_format http_wait_end_of_query
	http_response_buffer_size cancel_http_readonly_queries_on_client_close cast_keep_nullable final limit offset
	format_csv_delimiter format_csv_null_representation format_tsv_null_representation enable_analyzer
	interactive_delay network_zstd_compression_level describe_include_subcolumns describe_compact_output`)

// serverOnlySettings exist in ClickHouse, have no meaning for a statement here and are accepted without effect.
var serverOnlySettings = newNameSet(`send_progress_in_http_headers http_headers_progress_interval_ms
	http_wait_end_of_query http_response_buffer_size http_make_head_request add_http_cors_header log_queries send_logs_level
	cancel_http_readonly_queries_on_client_close http_receive_timeout http_send_timeout receive_timeout send_timeout connect_timeout
	http_connection_timeout interactive_delay network_zstd_compression_level http_write_exception_in_output_format replace_running_query`)

// settingPrefixes open families of format settings that reach nothing outside the answer or the data of the request.
var settingPrefixes = []string{"output_format_", "input_format_"}

// refusedInFamilies name files or other reach within those families.
var refusedInFamilies = newNameSet("format_schema format_schema_source output_format_schema input_format_schema")

type setting struct{ name, value string }

// checkSetting decides whether a request may carry a setting; known tells whether the engine has one of that name.
func checkSetting(name string, r role, known nameSet) error {
	if !known.has(name) {
		return newException(codeUnknownSetting, "UNKNOWN_SETTING", "Unknown setting '%s'", name)
	}
	allowed := ownerSettings.has(name)
	if r == roleReader {
		allowed = readerSettings.has(name)
	}
	for _, prefix := range settingPrefixes {
		if strings.HasPrefix(name, prefix) && !refusedInFamilies.has(name) {
			allowed = true
		}
	}
	switch {
	case allowed:
		return nil
	case r == roleReader:
		return newException(codeReadOnly, "READONLY", "Cannot modify '%s' setting in readonly mode", name)
	default:
		return newException(codeSettingConstraint, "SETTING_CONSTRAINT_VIOLATION", "Setting %s should not be changed here", name)
	}
}

// sessionSetup returns the statements that prepare a connection and the key under which it may be shared.
func sessionSetup(database string, settings []setting, r role) (key string, setup []string) {
	sort.Slice(settings, func(i, j int) bool { return settings[i].name < settings[j].name })
	setup = append(setup, "USE "+quoteIdentifier(database))
	var set []string
	for _, s := range settings {
		if !serverOnlySettings.has(s.name) {
			set = append(set, quoteIdentifier(s.name)+" = "+quoteString(s.value))
		}
	}
	if r == roleReader {
		set = append(set, "readonly = 1") // last: after it nothing can be set
	}
	if len(set) > 0 {
		setup = append(setup, "SET "+strings.Join(set, ", "))
	}
	return strings.Join(setup, ";"), setup
}

func quoteString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}

func quoteIdentifier(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`", "\x00", `\0`).Replace(s) + "`"
}
