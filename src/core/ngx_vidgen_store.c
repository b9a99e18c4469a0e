#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_store.h"
#include "shm/ngx_vidgen_metric.h"


/*
 * Lanes keep a kind of call on one connection: results on one, generations on
 * the other, so that neither waits behind the other's commit.  A sweep, which
 * runs functions of others for many jobs at once, may take long: nothing waits
 * behind it where there is a third connection.
 */
#define NGX_VIDGEN_LANE_APPLY     0
#define NGX_VIDGEN_LANE_GENERATE  1
#define NGX_VIDGEN_LANE_SWEEP     2

/* the parameters that name what a call locks */
#define NGX_VIDGEN_KEY_JOB         0x01
#define NGX_VIDGEN_KEY_USER        0x04
#define NGX_VIDGEN_KEY_RESULT      0x07  /* provider, attempt, its id there */


typedef struct {
    ngx_vidgen_zone_t        *zone;
    ngx_log_t                *log;
    unsigned                  notify:1;
    unsigned                  warned:1;      /* about the server's settings */
    unsigned                  outdated:1;    /* said that the schema is old */
} ngx_vidgen_store_hello_t;


struct ngx_vidgen_store_s {
    ngx_vidgen_pg_t          *pg;
    ngx_uint_t                notify;
};


typedef struct {
    ngx_str_t  version;
    ngx_str_t  system_identifier;
    ngx_str_t  timeline;
    ngx_str_t  clock;            /* ms since the epoch */
    ngx_str_t  backend_pid;
    ngx_str_t  warnings;
} ngx_vidgen_store_hello_row_t;


typedef struct {
    ngx_vidgen_pg_call_t      call;
    ngx_pool_t               *pool;
    ngx_str_t                 job;
} ngx_vidgen_store_notified_t;


static void ngx_vidgen_store_notified(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static ngx_int_t ngx_vidgen_store_hello(void *data,
    ngx_vidgen_pg_result_t *result, int backend_pid);
static void ngx_vidgen_store_check_server(ngx_vidgen_store_hello_t *hello,
    ngx_vidgen_store_hello_row_t *row);


#define ngx_vidgen_store_params(type)  (sizeof(type) / sizeof(ngx_str_t))


static ngx_vidgen_pg_statement_t  ngx_vidgen_store_hello_statement = {
    "vidgen_hello",
    "SELECT 1 AS ord, * FROM vidgen.hello()",
    0, 0, 0, NGX_VIDGEN_PG_CLOSER, 0
};


static ngx_vidgen_pg_statement_t  ngx_vidgen_store_notify_statement = {
    "vidgen_notify",
    "SELECT j.ord, pg_notify('vidgen_job', j.id)"
    " FROM unnest($1::text[]) WITH ORDINALITY j (id, ord)",
    1, NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE, NGX_VIDGEN_PG_POLL,
    0
};


static ngx_vidgen_pg_statement_t  ngx_vidgen_store_statements[] = {

    { "vidgen_begin",
      "SELECT * FROM vidgen.begin($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)",
      ngx_vidgen_store_params(ngx_vidgen_store_begin_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_BEGIN, NGX_VIDGEN_KEY_USER },

    { "vidgen_next_attempt",
      "SELECT * FROM vidgen.next_attempt($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)",
      ngx_vidgen_store_params(ngx_vidgen_store_next_attempt_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_CLOSER, NGX_VIDGEN_KEY_JOB },

    { "vidgen_submitted",
      "SELECT * FROM vidgen.submitted($1,$2,$3,$4,$5,$6,$7,$8)",
      ngx_vidgen_store_params(ngx_vidgen_store_submitted_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_CLOSER, NGX_VIDGEN_KEY_JOB },

    { "vidgen_abandon",
      "SELECT * FROM vidgen.abandon($1,$2,$3,$4,$5,$6,$7,$8,$9)",
      ngx_vidgen_store_params(ngx_vidgen_store_abandon_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_CLOSER, NGX_VIDGEN_KEY_JOB },

    { "vidgen_apply",
      "SELECT * FROM vidgen.apply($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)",
      ngx_vidgen_store_params(ngx_vidgen_store_apply_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_APPLY,
      NGX_VIDGEN_PG_WEBHOOK, NGX_VIDGEN_KEY_RESULT },

    { "vidgen_job",
      "SELECT * FROM vidgen.job($1,$2)",
      ngx_vidgen_store_params(ngx_vidgen_store_job_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_due",
      "SELECT 1 AS ord, * FROM vidgen.due($1,$2,$3,$4)",
      ngx_vidgen_store_params(ngx_vidgen_store_due_t),
      0, NGX_VIDGEN_LANE_APPLY, NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_polled",
      "SELECT o.ord, p.n FROM (SELECT vidgen.polled($1,$2,$3,$4) AS n) p,"
      " generate_series(1, cardinality($1)) o (ord)",
      ngx_vidgen_store_params(ngx_vidgen_store_polled_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_APPLY,
      NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_sweep",
      "SELECT 1 AS ord, s.*, vidgen.orphans($1::interval / 2),"
      " (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
      " FROM vidgen.sweep($1,$2,$3,$4) s",
      ngx_vidgen_store_params(ngx_vidgen_store_sweep_t),
      0, NGX_VIDGEN_LANE_SWEEP, NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_health_log",
      "SELECT * FROM vidgen.health_log($1,$2,$3,$4,$5)",
      ngx_vidgen_store_params(ngx_vidgen_store_health_log_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_health_seed",
      "SELECT * FROM vidgen.health_seed($1)",
      ngx_vidgen_store_params(ngx_vidgen_store_health_seed_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_alert",
      "SELECT * FROM vidgen.alert($1,$2,$3,$4,$5,$6,$7)",
      ngx_vidgen_store_params(ngx_vidgen_store_alert_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_POLL, 0 },

    { "vidgen_alerted",
      "SELECT * FROM vidgen.alerted($1,$2,$3,$4,$5,$6,$7)",
      ngx_vidgen_store_params(ngx_vidgen_store_alerted_t),
      NGX_VIDGEN_STORE_BATCH, NGX_VIDGEN_LANE_GENERATE,
      NGX_VIDGEN_PG_POLL, 0 },
};


ngx_int_t
ngx_vidgen_store_configure(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf,
    ngx_vidgen_zone_t *zone, ngx_uint_t notify)
{
    ngx_vidgen_store_hello_t  *hello;

    hello = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_store_hello_t));
    if (hello == NULL) {
        return NGX_ERROR;
    }

    hello->zone = zone;
    hello->notify = notify;
    hello->log = &cf->cycle->new_log;

    conf->hello = &ngx_vidgen_store_hello_statement;
    conf->on_hello = ngx_vidgen_store_hello;
    conf->hello_data = hello;

    return NGX_OK;
}


ngx_vidgen_store_t *
ngx_vidgen_store_create(ngx_cycle_t *cycle, ngx_vidgen_pg_conf_t *conf)
{
    ngx_vidgen_store_t  *store;

    store = ngx_pcalloc(cycle->pool, sizeof(ngx_vidgen_store_t));
    if (store == NULL) {
        return NULL;
    }

    store->pg = ngx_vidgen_pg_create(cycle, conf);
    store->notify = ((ngx_vidgen_store_hello_t *) conf->hello_data)->notify;

    return store->pg ? store : NULL;
}


void
ngx_vidgen_store_destroy(ngx_vidgen_store_t *store)
{
    ngx_vidgen_pg_destroy(store->pg);
}


ngx_vidgen_pg_t *
ngx_vidgen_store_pg(ngx_vidgen_store_t *store)
{
    return store->pg;
}


ngx_int_t
ngx_vidgen_store_start(ngx_vidgen_store_t *store,
    ngx_vidgen_store_statement_e statement, ngx_vidgen_pg_call_t *call,
    void *params)
{
    call->statement = &ngx_vidgen_store_statements[statement];
    call->values = params;

    return ngx_vidgen_pg_start(store->pg, call);
}


ngx_int_t
ngx_vidgen_store_row(ngx_vidgen_pg_result_t *result, void *row, size_t size)
{
    return ngx_vidgen_store_rows(result, 0, row, size);
}


ngx_int_t
ngx_vidgen_store_rows(ngx_vidgen_pg_result_t *result, ngx_uint_t n, void *row,
    size_t size)
{
    ngx_str_t   *columns;
    ngx_uint_t   i;

    columns = row;

    ngx_memzero(row, size);

    if (result->outcome != NGX_VIDGEN_PG_DONE || result->rows <= n) {
        return NGX_DECLINED;
    }

    for (i = 0; i < size / sizeof(ngx_str_t); i++) {
        if (ngx_vidgen_pg_value(result, n, i + 1, &columns[i]) != NGX_OK) {
            ngx_str_null(&columns[i]);
        }
    }

    return NGX_OK;
}


void
ngx_vidgen_store_notify(ngx_vidgen_store_t *store, ngx_str_t *job)
{
    ngx_pool_t                   *pool;
    ngx_vidgen_store_notified_t  *notified;

    if (!store->notify) {
        return;
    }

    pool = ngx_create_pool(512, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    notified = ngx_pcalloc(pool, sizeof(ngx_vidgen_store_notified_t));

    if (notified) {
        notified->pool = pool;
        notified->job.len = job->len;
        notified->job.data = ngx_pstrdup(pool, job);
        notified->call.statement = &ngx_vidgen_store_notify_statement;
        notified->call.values = &notified->job;
        notified->call.handler = ngx_vidgen_store_notified;
        notified->call.data = notified;

        if (notified->job.data
            && ngx_vidgen_pg_start(store->pg, &notified->call) == NGX_OK)
        {
            return;
        }
    }

    ngx_destroy_pool(pool);
}


static void
ngx_vidgen_store_notified(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_store_notified_t *notified = call->data;

    ngx_destroy_pool(notified->pool);
}


void
ngx_vidgen_store_refund_error(ngx_vidgen_zone_t *zone, ngx_log_t *log,
    ngx_str_t *job, ngx_str_t *error)
{
    if (error->len == 0) {
        return;
    }

    ngx_vidgen_metric_add(zone, NGX_VIDGEN_CREDIT_FUNCTION_ERRORS, 1);
    ngx_log_error(NGX_LOG_CRIT, log, 0,
                  "vidgen: job \"%V\" failed and its refund is due:"
                  " vidgen.refund_credits raised: %V", job, error);
}


static ngx_int_t
ngx_vidgen_store_hello(void *data, ngx_vidgen_pg_result_t *result,
    int backend_pid)
{
    ngx_vidgen_store_hello_t  *hello = data;

    ngx_int_t                     version;
    ngx_vidgen_store_hello_row_t  row;

    version = 0;

    if (ngx_vidgen_store_row(result, &row, sizeof(row)) == NGX_OK) {
        version = ngx_atoi(row.version.data, row.version.len);
    }

    if (version < NGX_VIDGEN_STORE_SCHEMA) {
        if (!hello->outdated) {
            ngx_log_error(NGX_LOG_CRIT, hello->log, 0,
                          "vidgen: the database has no or an old schema"
                          " (%i, needed %d): run the migrations in sql/"
                          " (%s: %V)",
                          version, NGX_VIDGEN_STORE_SCHEMA, result->sqlstate,
                          &result->message);
        }

        hello->outdated = 1;
        return NGX_DECLINED;
    }

    hello->outdated = 0;

    ngx_vidgen_store_check_server(hello, &row);

    if (ngx_atoi(row.backend_pid.data, row.backend_pid.len) != backend_pid) {
        return NGX_DONE;
    }

    return NGX_OK;
}


static void
ngx_vidgen_store_check_server(ngx_vidgen_store_hello_t *hello,
    ngx_vidgen_store_hello_row_t *row)
{
    off_t       clock;
    time_t      apart;
    ngx_int_t   timeline;

    timeline = ngx_atoi(row->timeline.data, row->timeline.len);

    if (ngx_vidgen_zone_history(hello->zone, &row->system_identifier,
                                timeline == NGX_ERROR ? 0 : timeline))
    {
        ngx_log_error(NGX_LOG_WARN, hello->log, 0,
                      "vidgen: the database continues another history"
                      " (timeline %i): events seen before are forgotten",
                      timeline);
    }

    if (hello->warned) {
        return;
    }

    hello->warned = 1;

    if (row->warnings.len) {
        ngx_log_error(NGX_LOG_WARN, hello->log, 0, "vidgen: database: %V",
                      &row->warnings);
    }

    clock = ngx_atoof(row->clock.data, row->clock.len);
    apart = (time_t) (clock / 1000) - ngx_time();

    if (clock == NGX_ERROR || apart > 30 || apart < -30) {
        ngx_log_error(NGX_LOG_ERR, hello->log, 0,
                      "vidgen: the database's clock is %T s from this"
                      " machine's: webhook signatures with timestamps may"
                      " fail", apart);
    }
}
