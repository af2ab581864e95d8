// Package pgtest is what Mekong relies on a PostgreSQL server for: one suite for the embedded server and for external ones.
package pgtest
