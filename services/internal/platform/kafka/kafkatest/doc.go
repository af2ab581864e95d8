// Package kafkatest gives tests a real Apache Kafka and holds the suite that every broker must pass: the embedded one
// and the real one behave alike where the project relies on it.
//
// MEKONG_TEST_KAFKA names brokers to use instead of starting one. Starting takes the jars that `make engines` fetches;
// without them the test fails.
package kafkatest
