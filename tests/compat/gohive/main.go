// Command gohive runs the Go driver through database/sql and prints what a program sees, in sections. It is a module of
// its own, so that the project depends on nothing of it.
package main

import (
	stdtls "crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/beltran/gohive/v2"
)

func main() {
	section("connect", func() error { return link(config("HS2_PORT")) })
	section("types", types)
	section("pages", pages)
	section("errors", failures)
	section("timeout", timeout)
	http := config("HS2_HTTP_PORT")
	http.TransportMode, http.HTTPPath = "http", "cliservice"
	section("HTTP", func() error { return link(http) })
	section("TLS", tls)
}

func section(name string, step func() error) {
	fmt.Println("##", name)
	if err := step(); err != nil {
		fmt.Println("FAILED", strings.ReplaceAll(err.Error(), "\n", " "))
	}
}

func config(port string) gohive.Config {
	n, _ := strconv.Atoi(os.Getenv(port))
	return gohive.Config{Host: os.Getenv("HS2_HOST"), Port: n, Auth: "NONE", Username: "ann", Password: "x", Database: "compat",
		HiveConfiguration: map[string]string{"spark.sql.shuffle.partitions": "6", "who": "go", "spark.sql.session.timeZone": "UTC"}}
}

func link(cfg gohive.Config) error {
	db := gohive.OpenDB(cfg)
	defer func() { _ = db.Close() }()
	if err := db.Ping(); err != nil {
		return err
	}
	for _, q := range []string{"SELECT current_database(), '${who}'", "SET spark.sql.shuffle.partitions"} {
		var a, b string
		if err := db.QueryRow(q).Scan(&a, &b); err != nil {
			return err
		}
		fmt.Println(a, b)
	}
	_, err := db.Exec("CREATE OR REPLACE TEMPORARY VIEW gv AS SELECT 5 AS five")
	return err
}

func types() error {
	db := gohive.OpenDB(config("HS2_PORT"))
	defer func() { _ = db.Close() }()
	rows, err := db.Query(os.Getenv("SQL_TYPES"))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(columns, " "))
	kinds, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	for _, k := range kinds {
		fmt.Print(k.DatabaseTypeName(), " ")
	}
	fmt.Println()
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range values {
			fmt.Printf("%s%v", strings.Repeat("|", min(i, 1)), v)
		}
		fmt.Println()
	}
	return rows.Err()
}

func pages() error {
	db := gohive.OpenDB(config("HS2_PORT"))
	defer func() { _ = db.Close() }()
	rows, err := db.Query(os.Getenv("SQL_PAGES"))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var n, sum, nulls int64
	var id sql.NullInt64
	var name string
	for ; rows.Next(); n++ {
		if err := rows.Scan(&id, &name); err != nil {
			return err
		}
		if !id.Valid {
			nulls++
		}
		sum += id.Int64
	}
	fmt.Println(n, sum, nulls, name)
	return rows.Err()
}

func failures() error {
	db := gohive.OpenDB(config("HS2_PORT"))
	defer func() { _ = db.Close() }()
	for _, q := range strings.Split(os.Getenv("SQL_ERRORS"), ";") {
		fmt.Println(firstLine(all(db, q)))
	}
	return all(db, "SELECT 'goes on'")
}

func all(db *sql.DB, q string) error {
	rows, err := db.Query(q)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		continue
	}
	return rows.Err()
}

func firstLine(err error) string {
	if err == nil {
		return "no error"
	}
	text := err.Error()
	if v := reflect.ValueOf(err); v.Kind() == reflect.Struct && v.FieldByName("Message").IsValid() {
		text = v.FieldByName("Message").String() // the type is the driver's own, and its text names addresses of strings
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// timeout asks the gateway for a time limit: the driver does not tell the server that a context has ended.
func timeout() error {
	cfg := config("HS2_PORT")
	cfg.HiveConfiguration["sluice.query_timeout"] = "2s"
	db := gohive.OpenDB(cfg)
	defer func() { _ = db.Close() }()
	fmt.Println(firstLine(all(db, os.Getenv("SQL_ENDLESS"))))
	return nil
}

func tls() error {
	for _, port := range []string{"TLS_PORT", "TLS_HTTP_PORT"} {
		for _, ca := range []string{os.Getenv("TLS_CA"), ""} {
			cfg := config(port)
			cfg.Database, cfg.HiveConfiguration = "", nil // a USE would need an engine
			if port == "TLS_HTTP_PORT" {
				cfg.TransportMode, cfg.HTTPPath = "http", "cliservice"
			}
			cfg.SSLCAFile = ca
			if ca == "" {
				cfg.TLSConfig = &stdtls.Config{RootCAs: x509.NewCertPool()}
			}
			if err := one(cfg); err != nil {
				if ca != "" {
					return err
				}
				fmt.Println("refused")
			}
		}
	}
	return nil
}

func one(cfg gohive.Config) error {
	db := gohive.OpenDB(cfg)
	defer func() { _ = db.Close() }()
	var n int
	if err := db.QueryRow("SELECT 1").Scan(&n); err != nil {
		return err
	}
	fmt.Println(n)
	return nil
}
