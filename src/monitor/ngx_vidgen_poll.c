#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "monitor/ngx_vidgen_poll_int.h"


#define NGX_VIDGEN_POLL_LIMIT     32     /* leased at a time */
#define NGX_VIDGEN_POLL_EACH      16     /* under way at one provider */
#define NGX_VIDGEN_POLL_ALL       96     /* leased at all */

/*
 * A poll's two steps, and the way of what came of them into the database.  A
 * lease is for all of one provider's, in turns; what has not had its turn when
 * less than a poll is left of it is given back.
 */
#define NGX_VIDGEN_POLL_TIME(timeout)                                         \
    (2 * (timeout) + 10000)
#define NGX_VIDGEN_POLL_LEASE(timeout)                                        \
    (NGX_VIDGEN_POLL_TIME(timeout)                                            \
     * (NGX_VIDGEN_POLL_LIMIT / NGX_VIDGEN_POLL_EACH))


typedef struct {
    ngx_vidgen_monitor_call_t    call;
    ngx_vidgen_store_due_t       params;
    ngx_vidgen_poller_t         *poller;
    ngx_uint_t                   limit;
    ngx_msec_t                   last;       /* moment to begin a poll */
} ngx_vidgen_poll_lease_t;


static ngx_uint_t ngx_vidgen_poll_idle(ngx_vidgen_pollee_t *pollee);
static ngx_int_t ngx_vidgen_poll_names(ngx_vidgen_poller_t *poller,
    ngx_pool_t *pool, ngx_uint_t idle, ngx_str_t *names);
static void ngx_vidgen_poll_lease(ngx_vidgen_poller_t *poller);
static void ngx_vidgen_poll_leased(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_vidgen_poll_take(ngx_vidgen_poll_lease_t *lease,
    ngx_vidgen_store_due_row_t *row);
static void ngx_vidgen_poll_work(ngx_vidgen_poller_t *poller);
static void ngx_vidgen_poll_serve(ngx_vidgen_pollee_t *pollee);
static void ngx_vidgen_poll_give_back(ngx_vidgen_poll_job_t *job);


ngx_int_t
ngx_vidgen_poll_create(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t               i, n;
    ngx_vidgen_poller_t     *poller;
    ngx_vidgen_pollee_t     *pollee;
    ngx_vidgen_provider_t  **provider;

    n = monitor->conf->providers->nelts;
    provider = monitor->conf->providers->elts;

    if (monitor->store == NULL) {
        return NGX_OK;
    }

    poller = ngx_pcalloc(monitor->pool, sizeof(ngx_vidgen_poller_t));
    pollee = ngx_pcalloc(monitor->pool, n * sizeof(ngx_vidgen_pollee_t));

    if (poller == NULL || pollee == NULL) {
        return NGX_ERROR;
    }

    poller->monitor = monitor;
    poller->pollees = pollee;
    poller->next = ngx_current_msec;

    for (i = 0; i < n; i++) {

        if (provider[i]->poll == NULL) {
            continue;
        }

        pollee = &poller->pollees[poller->n++];

        pollee->poller = poller;
        pollee->provider = provider[i];
        ngx_queue_init(&pollee->waiting);
    }

    if (poller->n) {
        monitor->poller = poller;
    }

    return NGX_OK;
}


void
ngx_vidgen_poll_tick(ngx_vidgen_monitor_t *monitor)
{
    if (monitor->poller) {
        ngx_vidgen_poll_work(monitor->poller);
    }
}


static void
ngx_vidgen_poll_work(ngx_vidgen_poller_t *poller)
{
    ngx_uint_t            i, idle;
    ngx_vidgen_pollee_t  *pollee;

    idle = 0;

    for (i = 0; i < poller->n; i++) {
        pollee = &poller->pollees[i];

        if (pollee->pausing && ngx_vidgen_monitor_due(pollee->paused)) {
            pollee->pausing = 0;
        }

        ngx_vidgen_poll_serve(pollee);

        idle |= ngx_vidgen_poll_idle(pollee);
    }

    if (idle && !poller->leasing && poller->leased < NGX_VIDGEN_POLL_ALL
        && ngx_vidgen_monitor_due(poller->next))
    {
        ngx_vidgen_poll_lease(poller);
    }
}


/* more may be leased */
static ngx_uint_t
ngx_vidgen_poll_idle(ngx_vidgen_pollee_t *pollee)
{
    return !pollee->pausing && ngx_queue_empty(&pollee->waiting);
}


static void
ngx_vidgen_poll_serve(ngx_vidgen_pollee_t *pollee)
{
    ngx_queue_t            *q;
    ngx_vidgen_poll_job_t  *job;

    while (!ngx_queue_empty(&pollee->waiting)) {
        q = ngx_queue_head(&pollee->waiting);
        job = ngx_queue_data(q, ngx_vidgen_poll_job_t, link);

        if (pollee->pausing || ngx_vidgen_monitor_due(job->last)) {
            ngx_queue_remove(q);
            ngx_vidgen_poll_give_back(job);
            continue;
        }

        if (pollee->running >= NGX_VIDGEN_POLL_EACH) {
            return;
        }

        ngx_queue_remove(q);

        pollee->running++;

        if (ngx_vidgen_poll_job_start(job) != NGX_OK) {
            pollee->running--;

            ngx_queue_insert_head(&pollee->waiting, q);
            return;
        }
    }
}


/* it has not been asked for */
static void
ngx_vidgen_poll_give_back(ngx_vidgen_poll_job_t *job)
{
    time_t                after;
    ngx_vidgen_pollee_t  *pollee;

    after = 0;
    pollee = job->pollee;

    if (pollee->pausing && !ngx_vidgen_monitor_due(pollee->paused)) {
        after = (pollee->paused - ngx_current_msec + 999) / 1000;
    }

    pollee->running++;

    ngx_vidgen_poll_again(job, after);
}


void
ngx_vidgen_poll_ended(ngx_vidgen_pollee_t *pollee)
{
    pollee->running--;
    pollee->poller->leased--;

    ngx_vidgen_poll_work(pollee->poller);
}


/* what is leased already is given back */
void
ngx_vidgen_poll_pause(ngx_vidgen_pollee_t *pollee, time_t seconds)
{
    pollee->pausing = 1;
    pollee->paused = ngx_current_msec + (ngx_msec_t) seconds * 1000;

    ngx_log_error(NGX_LOG_WARN, pollee->poller->monitor->log, 0,
                  "vidgen: provider \"%V\" wants no polls for %T seconds",
                  &pollee->provider->name, seconds);
}


static void
ngx_vidgen_poll_lease(ngx_vidgen_poller_t *poller)
{
    ngx_pool_t                 *pool;
    ngx_vidgen_monitor_conf_t  *conf;
    ngx_vidgen_poll_lease_t    *lease;

    conf = poller->monitor->conf;

    lease = ngx_vidgen_monitor_call_create(poller->monitor,
                                           sizeof(ngx_vidgen_poll_lease_t),
                                           ngx_vidgen_poll_leased);
    if (lease == NULL) {
        return;
    }

    pool = lease->call.pool;

    lease->poller = poller;
    lease->limit = ngx_min(NGX_VIDGEN_POLL_LIMIT,
                           NGX_VIDGEN_POLL_ALL - poller->leased);
    lease->last = ngx_current_msec + NGX_VIDGEN_POLL_LEASE(conf->timeout)
                  - NGX_VIDGEN_POLL_TIME(conf->timeout);

    if (ngx_vidgen_poll_names(poller, pool, 1, &lease->params.providers)
        != NGX_OK
        || ngx_vidgen_store_interval(pool, &lease->params.overdue,
                                     conf->overdue) != NGX_OK
        || ngx_vidgen_text_number(pool, &lease->params.limit,
                                  lease->limit) != NGX_OK
        || ngx_vidgen_store_interval(pool, &lease->params.lease,
                                     NGX_VIDGEN_POLL_LEASE(conf->timeout))
           != NGX_OK
        || ngx_vidgen_monitor_call_start(&lease->call, NGX_VIDGEN_STORE_DUE,
                                         &lease->params) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return;
    }

    poller->leasing = 1;
    poller->next = ngx_current_msec + conf->poll;
}


ngx_int_t
ngx_vidgen_poll_providers(ngx_vidgen_monitor_t *monitor, ngx_pool_t *pool,
    ngx_str_t *names)
{
    if (monitor->poller == NULL) {
        ngx_str_set(names, "{}");
        return NGX_OK;
    }

    return ngx_vidgen_poll_names(monitor->poller, pool, 0, names);
}


/* all, or the idle ones, as an array */
static ngx_int_t
ngx_vidgen_poll_names(ngx_vidgen_poller_t *poller, ngx_pool_t *pool,
    ngx_uint_t idle, ngx_str_t *names)
{
    size_t                size;
    u_char               *p;
    ngx_uint_t            i, n;
    ngx_vidgen_pollee_t  *pollee;

    size = sizeof("{}\"\",");

    for (i = 0; i < poller->n; i++) {
        size += poller->pollees[i].provider->name.len + sizeof("\"\",");
    }

    p = ngx_pnalloc(pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    n = 0;
    names->data = p;
    *p++ = '{';

    for (i = 0; i < poller->n; i++) {
        pollee = &poller->pollees[i];

        if (idle && !ngx_vidgen_poll_idle(pollee)) {
            continue;
        }

        p = ngx_sprintf(p, "%s\"%V\"", n ? "," : "", &pollee->provider->name);
        n = 1;

        /* jobs of before there were names are the first provider's */

        if (pollee->provider->index == 0) {
            p = ngx_cpymem(p, ",\"\"", sizeof(",\"\"") - 1);
        }
    }

    *p++ = '}';
    names->len = p - names->data;

    return NGX_OK;
}


static void
ngx_vidgen_poll_leased(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_poll_lease_t *lease = call->data;

    ngx_uint_t                   i;
    ngx_vidgen_poller_t         *poller;
    ngx_vidgen_store_due_row_t   row;

    poller = lease->poller;
    poller->leasing = 0;

    if (ngx_vidgen_monitor_call_check(&lease->call, result) == NGX_OK) {

        for (i = 0;
             ngx_vidgen_store_rows(result, i, &row, sizeof(row)) == NGX_OK;
             i++)
        {
            ngx_vidgen_poll_take(lease, &row);
        }

        if (i == lease->limit) {
            poller->next = ngx_current_msec;
        }
    }

    ngx_destroy_pool(lease->call.pool);

    ngx_vidgen_poll_work(poller);
}


static void
ngx_vidgen_poll_take(ngx_vidgen_poll_lease_t *lease,
    ngx_vidgen_store_due_row_t *row)
{
    ngx_uint_t              i;
    ngx_vidgen_poller_t    *poller;
    ngx_vidgen_pollee_t    *pollee;
    ngx_vidgen_poll_job_t  *job;

    poller = lease->poller;

    for (i = 0; i < poller->n; i++) {
        pollee = &poller->pollees[i];

        if ((row->provider.len == 0 && pollee->provider->index == 0)
            || ngx_vidgen_text_same(&row->provider, &pollee->provider->name))
        {
            job = ngx_vidgen_poll_job_create(pollee, row);

            if (job) {
                job->last = lease->last;
                poller->leased++;

                ngx_queue_insert_tail(&pollee->waiting, &job->link);
            }

            return;
        }
    }
}
