// Runs npm's hive-driver and prints what a program sees, in sections.
'use strict';
const { readFileSync } = require('fs');
const hive = require('hive-driver');
const { TCLIService, TCLIService_types: types } = hive.thrift;
const utils = new hive.HiveUtils(types);
const env = process.env;

async function section(name, step) {
  console.log('## ' + name);
  const began = Date.now();
  try {
    await step();
  } catch (e) {
    console.log('FAILED ' + String(e.message || e).split('\n')[0]);
    console.error(e);
  }
  console.error(`${name} took ${Date.now() - began} ms`);
}

function tcp() {
  return new hive.HiveClient(TCLIService, types).connect({ host: env.HS2_HOST, port: Number(env.HS2_PORT) },
    new hive.connections.TcpConnection(), new hive.auth.PlainTcpAuthentication({ username: 'ann', password: 'x' }));
}

function http() {
  return new hive.HiveClient(TCLIService, types).connect({ host: env.HS2_HOST, port: Number(env.HS2_HTTP_PORT), options: { path: '/cliservice', https: false } },
    new hive.connections.HttpConnection(), new hive.auth.PlainHttpAuthentication({ username: 'ann', password: 'x' }));
}

function secure(over) {
  const [port, options] = over === 'http' ? [env.TLS_HTTP_PORT, { path: '/cliservice', https: true, ca: readFileSync(env.TLS_CA) }] : [env.TLS_PORT, { ssl: true, ca: readFileSync(env.TLS_CA) }];
  const [connection, auth] = over === 'http' ? [new hive.connections.HttpConnection(), hive.auth.PlainHttpAuthentication] : [new hive.connections.TcpConnection(), hive.auth.PlainTcpAuthentication];
  return new hive.HiveClient(TCLIService, types).connect({ host: env.HS2_HOST, port: Number(port), options }, connection, new auth({ username: 'ann', password: 'x' }));
}

async function inSession(dial, conf, step) {
  const client = await dial();
  client.on('error', (e) => console.error('connection: ' + e));
  const session = await client.openSession({ client_protocol: types.TProtocolVersion.HIVE_CLI_SERVICE_PROTOCOL_V10, configuration: conf });
  try {
    await step(session);
  } finally {
    await session.close();
    client.close();
  }
}

async function rows(op) {
  await utils.waitUntilReady(op, false, () => {});
  await utils.fetchAll(op);
  const value = utils.getResult(op).getValue();
  await op.close();
  return value;
}

async function query(session, sql, options) {
  return rows(await session.executeStatement(sql, { runAsync: true, ...options }));
}

const print = (v) => console.log(JSON.stringify(v));

const link = (dial) => inSession(dial, { 'use:database': 'compat', 'set:hiveconf:spark.sql.shuffle.partitions': '6', 'set:hivevar:who': 'js' }, async (s) => {
  print(await query(s, "SELECT current_database() AS db, '${who}' AS who"));
  print(await query(s, 'SET spark.sql.shuffle.partitions'));
  print((await s.getInfo(types.TGetInfoType.CLI_DBMS_VER)).getValue());
});

const allTypes = () => inSession(tcp, { 'set:hiveconf:spark.sql.session.timeZone': 'UTC' }, async (s) => {
  for (const row of await query(s, env.SQL_TYPES)) print(row);
});

const pages = () => inSession(tcp, {}, async (s) => {
  const op = await s.executeStatement(env.SQL_PAGES, { runAsync: true });
  op.setMaxRows(100);
  const got = await rows(op);
  print([got.length, got.reduce((sum, r) => sum + (r.id || 0), 0), got.filter((r) => r.id === null).length, got[got.length - 1].name]);
});

const errors = () => inSession(tcp, {}, async (s) => {
  for (const sql of env.SQL_ERRORS.split(';')) {
    try {
      print((await query(s, sql)).length);
    } catch (e) { // an error of the operation's state carries the response, one of a call its status
      const r = e.response || e;
      console.log(`${r.sqlState || ''} ${r.errorMessage || e.message}`.replace(/\n/g, ' ').slice(0, 200));
    }
  }
  print(await query(s, "SELECT 'goes on' AS x"));
});

const timeout = () => inSession(tcp, { 'sluice.query_timeout': '2s' }, async (s) => {
  try {
    print(await query(s, env.SQL_ENDLESS));
  } catch (e) {
    console.log(`${e.message}: ${e.response.errorMessage}`);
  }
});

const tls = async () => {
  for (const over of ['binary', 'http']) await inSession(() => secure(over), {}, async (s) => print(await query(s, 'SELECT 1 AS one')));
};

const cancel = () => inSession(tcp, {}, async (s) => {
  const op = await s.executeStatement(env.SQL_ENDLESS, { runAsync: true });
  let progress = '';
  const running = utils.waitUntilReady(op, true, async (status) => {
    const p = status.progressUpdateResponse;
    if (progress || !p || !p.rows.length) return;
    progress = utils.formatProgress(p);
    await op.cancel();
  });
  try {
    await running;
    console.log('not cancelled');
  } catch (e) {
    console.log(e.message);
  }
  await op.close();
  print(await query(s, 'SELECT 2 AS two'));
  console.log('## log');
  console.log(progress);
});

const metadata = () => inSession(tcp, {}, async (s) => {
  const names = async (op, column) => (await rows(op)).map((r) => r[column]);
  print((await names(await s.getSchemas({}), 'TABLE_SCHEM')).filter((n) => n === 'compat' || n === 'default'));
  print((await names(await s.getTables({ schemaName: 'compat' }), 'TABLE_NAME')).filter((n) => n === 'seen' || n === 'looked'));
  print((await rows(await s.getColumns({ schemaName: 'compat', tableName: 'seen' }))).map((r) => r.COLUMN_NAME + ' ' + r.TYPE_NAME));
  print((await names(await s.getTypeInfo(), 'TYPE_NAME')).includes('INT'));
  print((await names(await s.getTableTypes(), 'TABLE_TYPE')));
});

(async () => {
  await section('connect', () => link(tcp));
  await section('types', allTypes);
  await section('pages', pages);
  await section('errors', errors);
  await section('cancel', cancel);
  await section('metadata', metadata);
  await section('timeout', timeout);
  await section('HTTP', () => link(http));
  await section('TLS', tls);
  process.exit(0);
})();
