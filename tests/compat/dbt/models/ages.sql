{{ config(materialized='incremental', incremental_strategy='append') }}
select count(*) as n, max(age) as oldest from {{ ref('adults') }}
