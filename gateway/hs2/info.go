package hs2

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
	"github.com/sluicedata/sluice/gateway/session"
)

// GetInfo implements tcli.TCLIService. It never needs an engine: pools call it to see whether a connection lives. The
// product is "Spark SQL", because ODBC drivers refuse what they do not know. Even an error carries a value, because
// the field is required and Thrift tears the connection without it.
func (h *handler) GetInfo(_ context.Context, req *tcli.TGetInfoReq) (*tcli.TGetInfoResp, error) {
	none := &tcli.TGetInfoValue{LenValue: ptr(int64(0))}
	if _, err := h.session(req.SessionHandle); err != nil {
		return &tcli.TGetInfoResp{Status: h.failed(err), InfoValue: none}, nil
	}
	if v := h.info(req.InfoType); v != nil {
		return &tcli.TGetInfoResp{Status: success(), InfoValue: v}, nil
	}
	return &tcli.TGetInfoResp{InfoValue: none, Status: h.failed(&session.Failure{
		Class: "SLUICE_GET_INFO", SQLState: "HYC00", Message: fmt.Sprintf("Unrecognized GetInfoType value: %s", req.InfoType)})}, nil
}

func (h *handler) info(t tcli.TGetInfoType) *tcli.TGetInfoValue {
	text := func(s string) *tcli.TGetInfoValue { return &tcli.TGetInfoValue{StringValue: &s} }
	length := func(n int64) *tcli.TGetInfoValue { return &tcli.TGetInfoValue{LenValue: &n} }
	switch t {
	case tcli.TGetInfoType_CLI_SERVER_NAME, tcli.TGetInfoType_CLI_DBMS_NAME:
		return text("Spark SQL")
	case tcli.TGetInfoType_CLI_DBMS_VER:
		return text(h.server.opt.SparkVersion)
	case tcli.TGetInfoType_CLI_MAX_COLUMN_NAME_LEN, tcli.TGetInfoType_CLI_MAX_SCHEMA_NAME_LEN,
		tcli.TGetInfoType_CLI_MAX_TABLE_NAME_LEN, tcli.TGetInfoType_CLI_MAX_CATALOG_NAME_LEN:
		return length(128)
	case tcli.TGetInfoType_CLI_IDENTIFIER_QUOTE_CHAR:
		return text("`")
	case tcli.TGetInfoType_CLI_SEARCH_PATTERN_ESCAPE:
		return text(`\`)
	case tcli.TGetInfoType_CLI_DATA_SOURCE_READ_ONLY:
		return text("N")
	case tcli.TGetInfoType_CLI_ACCESSIBLE_TABLES:
		return text("Y")
	case tcli.TGetInfoType_CLI_USER_NAME:
		return text(h.identity.User)
	case tcli.TGetInfoType_CLI_TXN_CAPABLE:
		return &tcli.TGetInfoValue{SmallIntValue: ptr(int16(0))}
	case tcli.TGetInfoType_CLI_ODBC_KEYWORDS:
		return text(strings.Join(strings.Fields(keywords), ","))
	}
	return nil
}

// keywords are the words of Spark SQL that ODBC and JDBC do not reserve themselves.
const keywords = `ADD AFTER ANALYZE ANTI ARCHIVE ARRAY BUCKET BUCKETS CACHE CHANGE CLEAR CLUSTER CLUSTERED CODEGEN
COLLECTION COLUMNS COMMENT COMPACT COMPUTE CONCATENATE COST CUBE DATA DATABASE DATABASES DBPROPERTIES DEFINED DELIMITED
DFS DIRECTORIES DIRECTORY DISTRIBUTE DIV ESCAPED EXCHANGE EXPLAIN EXPORT EXTENDED FIELDS FILEFORMAT FOLLOWING FORMAT
FORMATTED FUNCTIONS GROUPING IF IGNORE ILIKE IMPORT INDEX INDEXES INPATH INPUTFORMAT ITEMS JSON KEYS LATERAL LAZY LINES
LIST LOAD LOCATION LOCK LOCKS LOGICAL MACRO MAP MERGE MSCK NAMESPACE NAMESPACES NULLS OPTIONS OUTPUTFORMAT OVER OVERWRITE
PARTITION PARTITIONED PARTITIONS PERCENT PIVOT PLACING PRECEDING PRINCIPALS PURGE QUALIFY RANGE RECORDREADER
RECORDWRITER RECOVER REDUCE REFRESH RENAME REPAIR REPLACE RESET RESPECT RLIKE ROLE ROLES ROLLUP ROW SEMI SEPARATED SERDE
SERDEPROPERTIES SETS SHOW SKEWED SORT SORTED STATISTICS STORED STRATIFY STRUCT SYNC TABLES TABLESAMPLE TBLPROPERTIES
TERMINATED TINYINT TOUCH TRANSFORM TRUNCATE TRY_CAST UNARCHIVE UNBOUNDED UNCACHE UNLOCK UNPIVOT UNSET USE VARIANT VIEWS
VOID WINDOW ZONE`
