// Package files looks at files of this machine that batches bring.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/sluicedata/sluice/engines"
)

// Readable says why a file cannot be brought, with the next step.
func Readable(f engines.File) error {
	file, err := os.Open(f.From)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is not there: it must be on the gateway's machine, or be named as hdfs://…", f.From)
		}
		return fmt.Errorf("the gateway cannot read %s (%w): let it, or put the file on HDFS and name it as hdfs://…", f.From, errors.Unwrap(err))
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file: name one, and a directory as an archive of it", f.From)
	}
	return err
}

// Ending is the end of an archive's name, by which it is unpacked.
func Ending(name string) string {
	if strings.HasSuffix(name, ".tar.gz") {
		return ".tar.gz"
	}
	return path.Ext(name)
}
