package tcli

// The protocol versions at which what we send changes. HiveServer2 TCLIService: a version is what the IDL calls Vn, on
// the wire n-1.
const (
	v3  = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V3  // VARCHAR, type qualifiers
	v4  = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V4  // CHAR, precision and scale
	v6  = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V6  // columns in place of rows
	v8  = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V8  // interval types
	v10 = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V10 // what a client without a usable version is taken for
	v11 = TProtocolVersion_HIVE_CLI_SERVICE_PROTOCOL_V11 // TIMESTAMP WITH LOCAL TIME ZONE
)

// MaxVersion is the highest protocol version spoken here.
const MaxVersion = v11

// firstVendorVersion starts the range of versions that Databricks' clients define for themselves; they are V10 with
// additions no Hive server knows.
const firstVendorVersion = 0xA501

// NegotiateVersion returns the version to answer OpenSession with: the lower of the client's and MaxVersion. Clients
// that send their real version in field 1282, and a negative one or none in field 1, are V10; the answer is never
// negative, because Java clients refuse to read such a reply.
func NegotiateVersion(req *TOpenSessionReq) TProtocolVersion {
	asked := req.GetClientProtocol()
	if req.GetClientProtocolI64() >= firstVendorVersion || asked >= firstVendorVersion || asked < 0 {
		return v10
	}
	return min(asked, MaxVersion)
}
