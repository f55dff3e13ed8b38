package spark

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines/spark/connectpb"
)

func TestDeclaredStrings(t *testing.T) {
	text := &connectpb.DataType{Kind: &connectpb.DataType_String_{String_: &connectpb.DataType_String{Collation: "UTF8_BINARY"}}}
	lower := &connectpb.DataType{Kind: &connectpb.DataType_String_{String_: &connectpb.DataType_String{Collation: "UTF8_LCASE"}}}
	array := &connectpb.DataType{Kind: &connectpb.DataType_Array_{Array: &connectpb.DataType_Array{ElementType: text}}}
	both := &connectpb.DataType{Kind: &connectpb.DataType_Map_{Map: &connectpb.DataType_Map{KeyType: text, ValueType: array}}}
	named := &connectpb.DataType{Kind: &connectpb.DataType_Struct_{Struct: &connectpb.DataType_Struct{Fields: []*connectpb.DataType_StructField{
		{Name: "char", DataType: array}, {Name: "My String", DataType: text}}}}}
	for name, tc := range map[string]struct {
		t        *connectpb.DataType
		declared string
		want     string
	}{
		"as it is":             {text, "", "STRING"},
		"with a collation":     {lower, "", "STRING COLLATE UTF8_LCASE"},
		"a column":             {text, "char(3)", "CHAR(3)"},
		"within others":        {both, "map<varchar(5),array<char(2)>>", "MAP<VARCHAR(5), ARRAY<CHAR(2)>>"},
		"one of two":           {both, "map<string,array<char(2)>>", "MAP<STRING, ARRAY<CHAR(2)>>"},
		"fields named like it": {named, "struct<char:array<char(2)>,My String:varchar(9)>", "STRUCT<char: ARRAY<CHAR(2)>, My String: VARCHAR(9)>"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, (&speller{charTypes(tc.declared)}).text(tc.t))
		})
	}
}
