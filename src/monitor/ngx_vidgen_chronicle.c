#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_relay.h"


#define NGX_VIDGEN_SEED_TIMEOUT  1000    /* ms that the first probes wait */


typedef struct {
    ngx_vidgen_monitor_call_t        call;
    ngx_vidgen_store_health_log_t    params;
    ngx_queue_t                      link;
} ngx_vidgen_chronicle_row_t;

typedef struct {
    ngx_vidgen_monitor_call_t        call;
    ngx_vidgen_store_health_seed_t   params;
    ngx_vidgen_provider_t           *provider;
} ngx_vidgen_chronicle_seed_t;


static void ngx_vidgen_chronicle_ask(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider);
static void ngx_vidgen_chronicle_seeded(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_vidgen_chronicle_note(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_relay_change_t *change);
static ngx_vidgen_chronicle_row_t *ngx_vidgen_chronicle_next(
    ngx_vidgen_monitor_t *monitor);
static void ngx_vidgen_chronicle_written(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);


void
ngx_vidgen_chronicle_seed(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t               i;
    ngx_vidgen_health_t      health;
    ngx_vidgen_provider_t  **provider;

    provider = monitor->conf->providers->elts;

    for (i = 0; i < monitor->conf->providers->nelts; i++) {

        ngx_vidgen_health_get(monitor->conf->zone, &provider[i]->name,
                              &health);

        if (health.renewed == 0) {
            ngx_vidgen_chronicle_ask(monitor, provider[i]);
        }
    }
}


static void
ngx_vidgen_chronicle_ask(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider)
{
    ngx_vidgen_chronicle_seed_t  *seed;

    if (monitor->store == NULL) {
        return;
    }

    seed = ngx_vidgen_monitor_call_create(monitor,
                                          sizeof(ngx_vidgen_chronicle_seed_t),
                                          ngx_vidgen_chronicle_seeded);
    if (seed == NULL) {
        return;
    }

    seed->provider = provider;
    seed->params.provider = provider->name;

    if (ngx_vidgen_monitor_call_start(&seed->call,
                                      NGX_VIDGEN_STORE_HEALTH_SEED,
                                      &seed->params)
        != NGX_OK)
    {
        ngx_destroy_pool(seed->call.pool);
        return;
    }

    monitor->seeding++;
}


static void
ngx_vidgen_chronicle_seeded(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_chronicle_seed_t *seed = call->data;

    ngx_uint_t                           i;
    ngx_vidgen_health_t                  health;
    ngx_vidgen_monitor_t                *monitor;
    ngx_vidgen_store_health_seed_row_t   row;

    monitor = seed->call.monitor;
    monitor->seeding--;

    if (ngx_vidgen_monitor_call_check(&seed->call, result) == NGX_OK
        && ngx_vidgen_store_row(result, &row, sizeof(row)) == NGX_OK)
    {
        ngx_memzero(&health, sizeof(ngx_vidgen_health_t));

        health.response_time_ms = ngx_vidgen_store_integer(&row.response_time);
        health.failures = ngx_vidgen_store_integer(&row.failures);
        health.last_check = ngx_vidgen_store_integer(&row.checked);
        health.since = ngx_vidgen_store_integer(&row.since);
        health.renewed = health.last_check;

        for (i = NGX_VIDGEN_HEALTHY; i <= NGX_VIDGEN_DOWN; i++) {
            if (ngx_vidgen_text_same(&ngx_vidgen_health_names[i], &row.status))
            {
                health.status = i;

                ngx_vidgen_health_seed(monitor->conf->zone,
                                       &seed->provider->name, &health);
            }
        }
    }

    ngx_destroy_pool(seed->call.pool);
}


ngx_uint_t
ngx_vidgen_chronicle_ready(ngx_vidgen_monitor_t *monitor)
{
    return monitor->seeding == 0
           || ngx_vidgen_monitor_due(monitor->started
                                     + NGX_VIDGEN_SEED_TIMEOUT);
}


void
ngx_vidgen_chronicle_tick(ngx_vidgen_monitor_t *monitor)
{
    ngx_vidgen_relay_change_t  change;

    while (ngx_vidgen_relay_changed(monitor->conf->zone, &change)) {
        ngx_vidgen_chronicle_note(monitor, &change);
    }

    ngx_vidgen_chronicle_flush(monitor);
}


/* calls that are started together are one transaction */
void
ngx_vidgen_chronicle_flush(ngx_vidgen_monitor_t *monitor)
{
    ngx_vidgen_chronicle_row_t  *row;

    while ((row = ngx_vidgen_chronicle_next(monitor)) != NULL) {
        if (ngx_vidgen_monitor_call_start(&row->call,
                                          NGX_VIDGEN_STORE_HEALTH_LOG,
                                          &row->params) != NGX_OK)
        {
            ngx_destroy_pool(row->call.pool);
        }
    }
}


void
ngx_vidgen_chronicle_drop(ngx_vidgen_monitor_t *monitor)
{
    ngx_vidgen_chronicle_row_t  *row;

    while ((row = ngx_vidgen_chronicle_next(monitor)) != NULL) {
        ngx_destroy_pool(row->call.pool);
    }
}


static ngx_vidgen_chronicle_row_t *
ngx_vidgen_chronicle_next(ngx_vidgen_monitor_t *monitor)
{
    ngx_queue_t  *q;

    if (ngx_queue_empty(&monitor->rows)) {
        return NULL;
    }

    q = ngx_queue_head(&monitor->rows);
    ngx_queue_remove(q);

    return ngx_queue_data(q, ngx_vidgen_chronicle_row_t, link);
}


static void
ngx_vidgen_chronicle_note(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_relay_change_t *change)
{
    ngx_str_t               name;
    ngx_vidgen_health_t     health;
    ngx_vidgen_provider_t  *provider;

    name.data = change->name;
    name.len = change->len;

    provider = ngx_vidgen_provider_find(monitor->conf->providers, &name);
    if (provider == NULL) {
        return;
    }

    ngx_vidgen_health_get(monitor->conf->zone, &name, &health);

    /* the reason is today's: often, but not always, the change's */

    health.status = change->status;
    health.failures = change->failures;
    health.response_time_ms = change->response_time_ms;

    ngx_vidgen_chronicle_say(monitor, provider, &health);
    ngx_vidgen_chronicle_write(monitor, provider, &health, change->when_ms);
}


void
ngx_vidgen_chronicle_write(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider, ngx_vidgen_health_t *health,
    int64_t when_ms)
{
    ngx_pool_t                  *pool;
    ngx_vidgen_chronicle_row_t  *row;

    if (monitor->store == NULL) {
        return;
    }

    row = ngx_vidgen_monitor_call_create(monitor,
                                         sizeof(ngx_vidgen_chronicle_row_t),
                                         ngx_vidgen_chronicle_written);
    if (row == NULL) {
        return;
    }

    pool = row->call.pool;

    row->params.provider = provider->name;
    row->params.status = ngx_vidgen_health_names[health->status];

    if (ngx_vidgen_text_number(pool, &row->params.response_time,
                               health->response_time_ms) != NGX_OK
        || ngx_vidgen_text_number(pool, &row->params.failures,
                                  health->failures) != NGX_OK
        || ngx_vidgen_text_number(pool, &row->params.checked, when_ms)
           != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return;
    }

    ngx_queue_insert_tail(&monitor->rows, &row->link);
}


static void
ngx_vidgen_chronicle_written(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_chronicle_row_t *row = call->data;

    (void) ngx_vidgen_monitor_call_check(&row->call, result);

    ngx_destroy_pool(row->call.pool);
}


void
ngx_vidgen_chronicle_say(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider, ngx_vidgen_health_t *health)
{
    static ngx_uint_t  levels[] = { NGX_LOG_NOTICE, NGX_LOG_WARN, NGX_LOG_ERR };

    ngx_log_error(levels[health->status], monitor->log, 0,
                  "vidgen: provider \"%V\" is %V: %ui failures in a row,"
                  " %ui ms%s%s", &provider->name,
                  &ngx_vidgen_health_names[health->status],
                  health->failures, health->response_time_ms,
                  health->reason[0] ? ", " : "", health->reason);
}
