// Package tcli holds the types and the codec of HiveServer2's Thrift service, TCLIService. It opens no connection and
// knows no session: what it gives a front end are the generated types, the column descriptors of a result (Column,
// Schema), an encoder that writes a TRowSet straight from Arrow columns (AppendRowSet) and a processor that sends such
// bytes as they are (NewProcessor).
//
// Values read as Spark's own Thrift server would write them, so that a JDBC client sees the same text whichever server
// it asks.
package tcli
