package engines

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{"512m": 512, "2g": 2048, "1t": 1 << 20, "1500k": 2, "384": 384, "2G": 2048, "2gb": 2048} {
		got, err := Mebibytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "g", "-1g", "1.5g", "2 g", "99999999999g"} {
		_, err := Mebibytes(text)
		require.ErrorContains(t, err, "write", text)
	}
	require.Equal(t, 384, DriverOverhead(1024, nil, 0.1))
	require.Equal(t, 819, DriverOverhead(8192, nil, 0.1))
	require.Equal(t, 2048, DriverOverhead(8192, map[string]string{"spark.driver.memoryOverhead": "2g"}, 0.1))
	require.Equal(t, 1638, DriverOverhead(8192, map[string]string{"spark.driver.memoryOverheadFactor": "0.2"}, 0.1))
}

// What java.util.Properties reads is what was written.
func TestPropertiesAreEscaped(t *testing.T) {
	require.Equal(t, `a\=b\:\ c=hdfs\://nn\:8020/x y
empty=
path=\ leading, C\:\\x\n\ttab\#\!
text=\u00E9\uD83D\uDE00
`, Properties(map[string]string{"a=b: c": "hdfs://nn:8020/x y", "path": " leading, C:\\x\n\ttab#!", "text": "é😀", "empty": ""}))
}
