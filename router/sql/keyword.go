package sql

// keywords are the words that the reader asks for. Others that Spark knows are names to it, or mean nothing for it.
var keywords = func() map[string]string {
	out := map[string]string{}
	for _, w := range []string{
		"add", "all", "alter", "analyze", "and", "anti", "approx", "array", "as", "asc", "asof", "begin", "between", "by",
		"cache", "call", "collation", "case", "cast", "catalogs", "changes", "clear", "cluster", "clustered", "codegen", "collations", "column",
		"columns", "comment", "commit", "compute", "cost", "create", "cross", "cube", "current", "data", "database", "databases",
		"declare", "default", "delete", "desc", "describe", "dfs", "directory", "distinct", "distribute", "div", "drop", "else",
		"end", "escape", "evolution", "exact", "except", "exclude", "execute", "exists", "explain", "export", "extended", "external",
		"filter", "for", "formatted", "from", "full", "function", "functions", "global", "grant", "group", "having", "identifier",
		"if", "ilike", "immediate", "import", "in", "include", "index", "inner", "inpath", "insert", "intersect", "into", "is",
		"join", "lateral", "lazy", "left", "like", "limit", "list", "load", "local", "location", "lock", "logical", "macro", "map",
		"matched", "materialized", "merge", "minus", "msck", "name", "namespace", "namespaces", "natural", "not", "null", "nulls", "of",
		"offset", "on", "options", "or", "order", "ordinality", "outer", "over", "overwrite", "partition", "partitioned",
		"partitions", "pivot", "procedure", "procedures", "purge", "qualify", "query", "recursive", "reduce", "references",
		"refresh", "rename", "repair", "replace", "reset", "returns", "revoke", "right", "rlike", "regexp", "role", "rollback",
		"rollup", "row", "schema", "schemas", "select", "semi", "serdeproperties", "set", "show", "skewed", "sort", "source",
		"start", "stored", "stream", "streaming", "struct", "system", "system_time", "system_version", "table", "tables",
		"tablesample", "target", "tblproperties", "temp", "temporary", "then", "timestamp", "to", "trim", "true", "false",
		"truncate", "uncache", "union", "unknown", "unlock", "unnest", "unpivot", "update", "use", "user", "using", "values", "var",
		"variable", "version", "view", "views", "when", "where", "window", "with", "aggregate", "extend", "flow", "metrics", "json",
		"user", "max", "recursion", "level", "exchange", "collate", "bin", "path", "catalog",
	} {
		out[w] = w
	}
	return out
}()

// longest is the length of the longest keyword.
const longest = len("serdeproperties")

// keyword returns the keyword that a word is, in lower case, or nothing.
func keyword(word string) string {
	if len(word) > longest {
		return ""
	}
	var lower [longest]byte
	for i := range len(word) {
		c := word[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	return keywords[string(lower[:len(word)])]
}
