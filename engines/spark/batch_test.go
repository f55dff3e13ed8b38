package spark

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/engines"
)

func planned(t *testing.T, b engines.Batch) engines.Launch {
	t.Helper()
	b.ID, b.User, b.Name, b.Memory = "b", "ann", "daily", "1g"
	l, err := Driver{}.PlanBatch(b, engines.Platform{Conf: map[string]string{"spark.sql.catalogImplementation": "hive"}})
	require.NoError(t, err)
	return l
}

func TestProgramsOfBatches(t *testing.T) {
	l := planned(t, engines.Batch{Jar: "/a/job.jar", Class: "a.B$C", Jars: []string{"hdfs:///x/y z.jar#yz.jar"}, Args: []string{"1"}, Files: []string{"file:///f%20g#fg", "/odd%20name#odd"}})
	require.Equal(t, "a.B$C", l.MainClass)
	require.Equal(t, []string{"1"}, l.Args)
	require.Equal(t, &engines.Program{Main: "job.jar", Jars: []string{"yz.jar"}, Bring: []engines.File{
		{Field: "jar", From: "/a/job.jar", Link: "job.jar"}, {Field: "jars[0]", From: "hdfs:///x/y%20z.jar", Link: "yz.jar"},
		{Field: "files[0]", From: "/f g", Link: "fg"}, {Field: "files[1]", From: "/odd%20name", Link: "odd"}}}, l.Program)
	require.Equal(t, map[string]string{"SPARK_USER": "ann"}, l.Env)

	l = planned(t, engines.Batch{Python: "hdfs://nn:8020/main.py", PyFiles: []string{"/u.py", "/p.egg"}, Archives: []string{"/e.tar.gz#env"}})
	require.Equal(t, pythonRunner, l.MainClass)
	require.Equal(t, &engines.Program{Python: true, Main: "main.py", Packages: []string{"u.py", "p.egg"}, Bring: []engines.File{
		{Field: "python", From: "hdfs://nn:8020/main.py", Link: "main.py"}, {Field: "py_files[0]", From: "/u.py", Link: "u.py"},
		{Field: "py_files[1]", From: "/p.egg", Link: "p.egg"}, {Field: "archives[0]", From: "/e.tar.gz", Link: "env", Archive: true}}}, l.Program)

	l = planned(t, engines.Batch{SQL: "/etl/../etl/daily.sql"})
	require.Equal(t, []string{"daily.sql"}, l.Args)
	require.Equal(t, "sluice_sql.py", l.Program.Main)
	require.Equal(t, sqlRunner, l.Files[l.Program.Main])
	require.Equal(t, []engines.File{{Field: "sql", From: "/etl/daily.sql", Link: "daily.sql"}}, l.Program.Bring)
}

// Where a batch runs and as whom is the platform's to say; the rest is its user's.
func TestSettingsOfBatches(t *testing.T) {
	conf := planned(t, engines.Batch{SQL: "/a.sql", Conf: map[string]string{
		"spark.master": "local", "spark.submit.deployMode": "client", "spark.yarn.queue": "root.boss", "spark.yarn.tags": "x", "spark.yarn.archive": "hdfs://mine",
		"spark.yarn.stagingDir": "/tmp", "spark.jars.ivy": "/x", "spark.kerberos.keytab": "/k", "spark.app.name": "other", "spark.sql.catalogImplementation": "in-memory",
		"spark.yarn.appMasterEnv.HADOOP_USER_NAME": "hdfs", "spark.executorEnv.HADOOP_USER_NAME": "hdfs", "spark.yarn.appMasterEnv.SPARK_USER": "bob",
		"spark.yarn.appMasterEnv.TZ": "UTC", "spark.executor.memory": "2g", "mine": "1",
	}}).Conf
	require.Equal(t, map[string]string{"spark.app.name": "daily", "spark.sql.catalogImplementation": "hive", "spark.yarn.appMasterEnv.TZ": "UTC",
		"spark.executor.memory": "2g", "mine": "1", "spark.sql.legacy.createHiveTableByDefault": "false"}, conf)
}

func TestPlanBatchRefuses(t *testing.T) {
	jar := func(more engines.Batch) engines.Batch {
		more.ID, more.Memory, more.Jar, more.Class = "b", "1g", "/a.jar", "A"
		return more
	}
	for name, tc := range map[string]struct {
		batch engines.Batch
		err   string
	}{
		"no id":              {engines.Batch{}, "it has no id"},
		"no program":         {engines.Batch{ID: "b", Memory: "1g"}, "the batch has no program: name one as jar, python or sql"},
		"two programs":       {jar(engines.Batch{SQL: "/a.sql"}), "the batch has 2 programs"},
		"no memory":          {engines.Batch{ID: "b", SQL: "/a.sql"}, `memory: "" is no size of a Java heap`},
		"no class":           {engines.Batch{ID: "b", Memory: "1g", Jar: "/a.jar"}, `class: "" is no name of a class`},
		"a class of nothing": {engines.Batch{ID: "b", Memory: "1g", SQL: "/a.sql", Class: "A"}, "class: only a jar has one"},
		"odd class":          {engines.Batch{ID: "b", Memory: "1g", Jar: "/a.jar", Class: "A; rm"}, `class: "A; rm" is no name of a class`},
		"modules of a jar":   {jar(engines.Batch{PyFiles: []string{"/a.py"}}), "py_files: only a Python program imports them"},
		"arguments of SQL":   {engines.Batch{ID: "b", Memory: "1g", SQL: "/a.sql", Args: []string{"x"}}, "args: a script of SQL takes none"},
		"no path":            {jar(engines.Batch{Files: []string{"/b", "c.txt"}}), `files[1]: "c.txt": nothing is brought from there: name a file by a path on the gateway's machine`},
		"another scheme":     {jar(engines.Batch{Jars: []string{"https://x/y.jar"}}), `jars[0]: "https://x/y.jar": nothing is brought from there`},
		"another machine":    {jar(engines.Batch{Files: []string{"file://host/x"}}), "the gateway reads no files of host"},
		"a relative hdfs":    {jar(engines.Batch{Files: []string{"hdfs:x/y"}}), "it is no path that begins with /"},
		"the root":           {jar(engines.Batch{Files: []string{"hdfs://nn:8020/"}}), "it is a directory"},
		"no URI":             {jar(engines.Batch{Files: []string{"hdfs://nn:x/y"}}), "it is no URI"},
		"one name twice":     {jar(engines.Batch{Files: []string{"/x/a.txt", "hdfs:///y/a.txt"}}), `files[1]: "hdfs:///y/a.txt": files[0] has the name a.txt already: give one of them another with #NAME behind it`},
		"the jar again":      {jar(engines.Batch{Jars: []string{"/a.jar"}}), "jar has the name a.jar already"},
		"odd name":           {jar(engines.Batch{Files: []string{"/x/a, b.txt"}}), `"a, b.txt" cannot be its name in the working directory: put # and a name`},
		"a path as name":     {jar(engines.Batch{Files: []string{"/x#../y"}}), "cannot be its name"},
		"no archive":         {jar(engines.Batch{Archives: []string{"/x.rar"}}), "archives[0]: \"/x.rar\": its name must end in .zip or .jar or .tar.gz"},
		"no Python":          {engines.Batch{ID: "b", Memory: "1g", Python: "/a.py#a"}, "the name behind # must end in .py, too"},
		"jars by a setting":  {jar(engines.Batch{Conf: map[string]string{"spark.jars": "x"}}), "conf: spark.jars brings nothing: name the files in jars"},
		"files by another":   {jar(engines.Batch{Conf: map[string]string{"spark.yarn.dist.files": "x"}}), "conf: spark.yarn.dist.files brings nothing: name the files in files"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Driver{}.PlanBatch(tc.batch, engines.Platform{})
			require.ErrorContains(t, err, tc.err)
		})
	}
}

// The program that runs scripts splits them at the semicolons that end a statement, and at no other.
func TestStatementsOfAScript(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	for name, tc := range map[string]struct {
		script string
		want   []string
	}{
		"several":     {"SELECT 1; SELECT 2", []string{"SELECT 1", "SELECT 2"}},
		"nothing":     {" ;; -- only\n; /* this */", []string{}},
		"strings":     {`SELECT 'a;\';b', "c;""d", r'\', R"\"; SELECT 'it''s;'`, []string{`SELECT 'a;\';b', "c;""d", r'\', R"\"`, `SELECT 'it''s;'`}},
		"names":       {"SELECT `a;b`, `c``;d`; x", []string{"SELECT `a;b`, `c``;d`", "x"}},
		"comments":    {"a -- ; '\nb; /* ; /* ; */ ' ; */ c;", []string{"a -- ; '\nb", "/* ; /* ; */ ' ; */ c"}},
		"long line":   {"-- x \\\n ; y\nz; w", []string{"-- x \\\n ; y\nz", "w"}},
		"open":        {"a; b /* ; c", []string{"a", "b /* ; c"}},
		"dollars":     {"f AS $$ a;b $$; g AS $t$ ; $$ ; $t$; h", []string{"f AS $$ a;b $$", "g AS $t$ ; $$ ; $t$", "h"}},
		"script":      {"BEGIN DECLARE x INT; IF x > 0 THEN SELECT 1; END IF; SELECT CASE WHEN 1 THEN 2 END; CASE x WHEN 1 THEN SELECT 2; END CASE; END; y", []string{"BEGIN DECLARE x INT; IF x > 0 THEN SELECT 1; END IF; SELECT CASE WHEN 1 THEN 2 END; CASE x WHEN 1 THEN SELECT 2; END CASE; END", "y"}},
		"label":       {"l: BEGIN WHILE a DO b; END WHILE; END l; y", []string{"l: BEGIN WHILE a DO b; END WHILE; END l", "y"}},
		"not scripts": {"SELECT begin, CASE WHEN a THEN b END FROM t; SELECT `end`; y", []string{"SELECT begin, CASE WHEN a THEN b END FROM t", "SELECT `end`", "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), python, "-c", "import json, sql, sys; print(json.dumps(list(sql.statements(sys.argv[1]))))", tc.script)
			cmd.Env = append(os.Environ(), "PYTHONPATH=.", "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			var got []string
			require.NoError(t, json.Unmarshal(out, &got), "%s", out)
			require.Equal(t, tc.want, got)
		})
	}
}
