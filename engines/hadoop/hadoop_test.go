package hadoop

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A directory is read as far as it goes: pods need no yarn-site.xml, and perhaps no HDFS.
func TestReadConf(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadConf(dir)
	require.ErrorContains(t, err, "there is no core-site.xml")
	write := func(name, key, value string) {
		text := "<configuration><property><name>" + key + "</name><value>" + value + "</value></property></configuration>"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("hive-site.xml", "hive.metastore.uris", "thrift://ms:9083")
	c, err := ReadConf(dir)
	require.NoError(t, err)
	require.Equal(t, "thrift://ms:9083", c.Values["hive.metastore.uris"])
	require.ErrorContains(t, c.NeedHDFS(dir), "it must be an hdfs:// address")
	write("core-site.xml", "fs.defaultFS", "hdfs://127.0.0.1:9000")
	c, err = ReadConf(dir)
	require.NoError(t, err)
	require.NoError(t, c.NeedHDFS(dir))
	require.Len(t, c.Files, 2)
	require.Equal(t, []string{"http://127.0.0.1:9870"}, c.NameNodePages)
	service, err := c.TokenService(t.Context())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9000", service)
	require.False(t, c.Secure())
}

// Both texts are what Hadoop 3.4's own classes write of a token with identifier id and password pw.
func TestTokenFile(t *testing.T) {
	token := Token("AmlkAnB3FUhERlNfREVMRUdBVElPTl9UT0tFTgdubjo4MDIw")
	file, err := TokenFile("nn:8020", token)
	require.NoError(t, err)
	require.Equal(t, "SERUUwABB25uOjgwMjACaWQCcHcVSERGU19ERUxFR0FUSU9OX1RPS0VOB25uOjgwMjAA", base64.StdEncoding.EncodeToString(file))
	back, err := ReadTokenFile(file)
	require.NoError(t, err)
	require.Equal(t, token, back)
	for _, bad := range []string{"", "HDTS", "HDTS\x00\x02\x01a1\x00", "HDTS\x00\x01\x7fa"} {
		_, err := ReadTokenFile([]byte(bad))
		require.Error(t, err, bad)
	}
	_, err = TokenFile("nn:8020", "no/base+64")
	require.ErrorContains(t, err, "no base64")
}

func TestTokensOverWebHDFS(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		switch r.URL.Query().Get("op") {
		case "GETDELEGATIONTOKEN":
			_, _ = io.WriteString(w, `{"Token":{"urlString":"AgEC"}}`)
		case "RENEWDELEGATIONTOKEN":
			_, _ = io.WriteString(w, `{"long":1795421293000}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"RemoteException":{"exception":"InvalidToken","message":"not found"}}`)
		}
	}))
	defer s.Close()
	a, err := NewAccess("sluice", nil)
	require.NoError(t, err)
	w := &WebHDFS{Access: a, Pages: []string{"http://127.0.0.1:1", s.URL}, User: "ann"}
	token, err := w.Token(t.Context(), "sluice/gw@X", "nn:8020")
	require.NoError(t, err)
	until, err := w.Renew(t.Context(), token)
	require.NoError(t, err)
	require.True(t, until.Equal(time.Unix(1795421293, 0)))
	require.ErrorContains(t, w.Cancel(t.Context(), token), "InvalidToken: not found")
	require.Equal(t, []string{"GET /webhdfs/v1/?kind=HDFS_DELEGATION_TOKEN&op=GETDELEGATIONTOKEN&renewer=sluice%2Fgw%40X&service=nn%3A8020&user.name=ann",
		"PUT /webhdfs/v1/?op=RENEWDELEGATIONTOKEN&token=AgEC&user.name=ann", "PUT /webhdfs/v1/?op=CANCELDELEGATIONTOKEN&token=AgEC&user.name=ann"}, asked)
}
