package hs2

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadConf(t *testing.T) {
	for name, tc := range map[string]struct {
		in   map[string]string
		want clientConf
	}{
		"nothing":             {nil, clientConf{settings: map[string]string{}}},
		"a database":          {map[string]string{"use:database": "shop"}, clientConf{settings: map[string]string{}, database: "shop"}},
		"the default one":     {map[string]string{"use:database": "default"}, clientConf{settings: map[string]string{}}},
		"a catalog":           {map[string]string{"use:catalog": "ice", "use:database": "db"}, clientConf{map[string]string{}, "ice", "db"}},
		"a catalog 'default'": {map[string]string{"use:catalog": "default"}, clientConf{settings: map[string]string{}, catalog: "default"}},
		"settings of JDBC": {map[string]string{"set:hiveconf:spark.a": "1", "set:hivevar:b": "2", "set:spark.c": "3", "set:HiveConf:d": "4"},
			clientConf{settings: map[string]string{"spark.a": "1", "b": "2", "spark.c": "3", "d": "4"}}},
		"settings of Python":   {map[string]string{"spark.a": "1", "hive.x": ""}, clientConf{settings: map[string]string{"spark.a": "1", "hive.x": ""}}},
		"another's name":       {map[string]string{"set:hiveconf:" + proxyKey: "bob"}, clientConf{settings: map[string]string{proxyKey: "bob"}}},
		"headers of a browser": {map[string]string{"X-Forwarded-For": "10.0.0.1", "x": "1"}, clientConf{settings: map[string]string{"x": "1"}}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, readConf(tc.in)) })
	}
}
