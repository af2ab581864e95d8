// Package stream is the registry of Kafka topics: who owns each, what travels on it, how it is keyed and kept. Every
// producer and consumer takes its topic from here; `mekong topics` shows and creates them.
//
// Non-obvious: partition counts are fixed for a topic's life, since order per device and the dedupe window hang on the
// partition of a key; a cluster whose topic has another count refuses to start.
package stream
