CREATE DATABASE IF NOT EXISTS demo;
USE demo;
CREATE TABLE customers (id INT, name STRING, region STRING) USING parquet;
CREATE TABLE orders (customer INT, amount DECIMAL(10,2), day DATE) USING parquet;
INSERT INTO customers VALUES (1, 'Ada', 'north'), (2, 'Grace', 'south'), (3, 'Edsger', 'north'), (4, 'Barbara', NULL);
INSERT INTO orders
  SELECT CAST(id % 4 + 1 AS INT), CAST(id AS DECIMAL(10,2)) / 4, date_add(DATE'2026-01-01', CAST(id % 30 AS INT)) FROM range(1000);
CREATE TABLE revenue USING parquet AS
  SELECT coalesce(c.region, 'unknown') AS region, count(*) AS orders, CAST(sum(o.amount) AS DECIMAL(12,2)) AS revenue, max(o.day) AS last_day
  FROM orders o JOIN customers c ON o.customer = c.id
  GROUP BY coalesce(c.region, 'unknown');
SELECT * FROM revenue ORDER BY region;
