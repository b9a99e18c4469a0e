#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_id.h"
#include "base/ngx_vidgen_text.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_metric.h"


#define NGX_VIDGEN_SWEEP_PERIOD   30000  /* ms, at most */
#define NGX_VIDGEN_SWEEP_SOON     1000   /* ms; the first, and while there is
                                            more to do */
#define NGX_VIDGEN_SWEEP_LIMIT    500    /* of each kind of thing */
#define NGX_VIDGEN_SWEEP_TIMEOUT  30000  /* ms */
#define NGX_VIDGEN_SWEEP_APART    30     /* seconds between clocks */
#define NGX_VIDGEN_SWEEP_SILENCE  10000  /* ms, then the database is asked
                                            whether it answers */


struct ngx_vidgen_sweeper_s {
    ngx_msec_t                   next;
    ngx_msec_t                   period;
    ngx_msec_t                   away;       /* the database, since then */
    int64_t                      orphans;    /* of the last one; -1: none yet */
    int64_t                      refunds_due;
    unsigned                     busy:1;
    unsigned                     is_away:1;
    unsigned                     asking:1;
};

typedef struct {
    ngx_vidgen_monitor_call_t    call;
    ngx_vidgen_store_sweep_t     params;
} ngx_vidgen_sweep_t;

typedef struct {
    ngx_vidgen_monitor_call_t    call;
    ngx_vidgen_store_job_t       params;
} ngx_vidgen_sweep_question_t;


static void ngx_vidgen_sweep_watch(ngx_vidgen_monitor_t *monitor);
static void ngx_vidgen_sweep_ask(ngx_vidgen_monitor_t *monitor);
static void ngx_vidgen_sweep_answered(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_vidgen_sweep_start(ngx_vidgen_monitor_t *monitor);
static void ngx_vidgen_sweep_done(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_vidgen_sweep_notify(ngx_vidgen_monitor_t *monitor,
    ngx_str_t *jobs);
static void ngx_vidgen_sweep_report(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_store_sweep_row_t *row);


ngx_int_t
ngx_vidgen_sweep_create(ngx_vidgen_monitor_t *monitor)
{
    ngx_msec_t             period;
    ngx_vidgen_sweeper_t  *sweeper;

    if (monitor->store == NULL) {
        return NGX_OK;
    }

    sweeper = ngx_pcalloc(monitor->pool, sizeof(ngx_vidgen_sweeper_t));
    if (sweeper == NULL) {
        return NGX_ERROR;
    }

    /* often enough for what is configured to end soon */

    period = ngx_min(monitor->conf->unknown, monitor->conf->expire) / 4;
    period = ngx_max(period, 100);

    sweeper->period = ngx_min(period, NGX_VIDGEN_SWEEP_PERIOD);
    sweeper->next = ngx_current_msec + ngx_min(sweeper->period,
                                               NGX_VIDGEN_SWEEP_SOON);
    sweeper->orphans = -1;

    monitor->sweeper = sweeper;

    return NGX_OK;
}


void
ngx_vidgen_sweep_tick(ngx_vidgen_monitor_t *monitor)
{
    if (monitor->sweeper == NULL) {
        return;
    }

    ngx_vidgen_sweep_watch(monitor);

    if (!monitor->sweeper->busy
        && ngx_vidgen_monitor_due(monitor->sweeper->next))
    {
        ngx_vidgen_sweep_start(monitor);
    }
}


/* whether there is a database at all */
static void
ngx_vidgen_sweep_watch(ngx_vidgen_monitor_t *monitor)
{
    ngx_vidgen_pg_stat_t   stat;
    ngx_vidgen_sweeper_t  *sweeper;

    sweeper = monitor->sweeper;

    ngx_vidgen_pg_stat(ngx_vidgen_store_pg(monitor->store), &stat);

    if (stat.connected) {
        sweeper->is_away = 0;
        ngx_vidgen_alert_matter(monitor, NGX_VIDGEN_ALERT_DATABASE, 0, 0);

        if (!sweeper->asking
            && ngx_vidgen_monitor_due(monitor->answered
                                      + NGX_VIDGEN_SWEEP_SILENCE))
        {
            ngx_vidgen_sweep_ask(monitor);
        }

        return;
    }

    if (!sweeper->is_away) {
        sweeper->is_away = 1;
        sweeper->away = ngx_current_msec;
    }

    if (ngx_vidgen_monitor_due(sweeper->away + monitor->conf->timeout)) {
        ngx_vidgen_alert_matter(monitor, NGX_VIDGEN_ALERT_DATABASE, 1, 0);
    }
}


/*
 * A connection on which nothing is asked is there, whatever has become of the
 * database.  Any question will do: what is not answered ends the connection.
 */

static void
ngx_vidgen_sweep_ask(ngx_vidgen_monitor_t *monitor)
{
    ngx_vidgen_sweep_question_t  *question;

    question = ngx_vidgen_monitor_call_create(monitor,
                                          sizeof(ngx_vidgen_sweep_question_t),
                                          ngx_vidgen_sweep_answered);
    if (question == NULL) {
        return;
    }

    ngx_str_set(&question->params.job, "00000000-0000-0000-0000-000000000000");

    if (ngx_vidgen_monitor_call_start(&question->call, NGX_VIDGEN_STORE_JOB,
                                      &question->params)
        != NGX_OK)
    {
        ngx_destroy_pool(question->call.pool);
        return;
    }

    monitor->sweeper->asking = 1;
}


static void
ngx_vidgen_sweep_answered(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_sweep_question_t *question = call->data;

    question->call.monitor->sweeper->asking = 0;

    (void) ngx_vidgen_monitor_call_check(&question->call, result);

    ngx_destroy_pool(question->call.pool);
}


static void
ngx_vidgen_sweep_start(ngx_vidgen_monitor_t *monitor)
{
    ngx_pool_t          *pool;
    ngx_vidgen_sweep_t  *sweep;

    monitor->sweeper->next = ngx_current_msec + monitor->sweeper->period;

    sweep = ngx_vidgen_monitor_call_create(monitor, sizeof(ngx_vidgen_sweep_t),
                                           ngx_vidgen_sweep_done);
    if (sweep == NULL) {
        return;
    }

    pool = sweep->call.pool;
    sweep->call.call.timeout = NGX_VIDGEN_SWEEP_TIMEOUT;

    if (ngx_vidgen_store_interval(pool, &sweep->params.unknown,
                                  monitor->conf->unknown) != NGX_OK
        || ngx_vidgen_store_interval(pool, &sweep->params.expire,
                                     monitor->conf->expire) != NGX_OK
        || ngx_vidgen_text_number(pool, &sweep->params.limit,
                                  NGX_VIDGEN_SWEEP_LIMIT) != NGX_OK
        || ngx_vidgen_poll_providers(monitor, pool, &sweep->params.polled)
           != NGX_OK
        || ngx_vidgen_monitor_call_start(&sweep->call, NGX_VIDGEN_STORE_SWEEP,
                                         &sweep->params) != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return;
    }

    monitor->sweeper->busy = 1;
}


static void
ngx_vidgen_sweep_done(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_sweep_t *sweep = call->data;

    ngx_vidgen_monitor_t          *monitor;
    ngx_vidgen_store_sweep_row_t   row;

    monitor = sweep->call.monitor;
    monitor->sweeper->busy = 0;

    if (ngx_vidgen_monitor_call_check(&sweep->call, result) == NGX_OK
        && ngx_vidgen_store_row(result, &row, sizeof(row)) == NGX_OK)
    {
        ngx_vidgen_sweep_notify(monitor, &row.changed);
        ngx_vidgen_sweep_report(monitor, &row);

        if (ngx_vidgen_store_true(&row.more)) {
            monitor->sweeper->next = ngx_current_msec + NGX_VIDGEN_SWEEP_SOON;
        }
    }

    ngx_destroy_pool(sweep->call.pool);
}


/* jobs: an array as PostgreSQL writes it */
static void
ngx_vidgen_sweep_notify(ngx_vidgen_monitor_t *monitor, ngx_str_t *jobs)
{
    u_char     *p, *last;
    ngx_str_t   job;

    p = jobs->data;
    last = jobs->data + jobs->len;

    while (last - p > NGX_VIDGEN_UUID_LEN) {
        job.data = p + 1;
        job.len = NGX_VIDGEN_UUID_LEN;

        ngx_vidgen_store_notify(monitor->store, &job);

        p += 1 + NGX_VIDGEN_UUID_LEN;
    }
}


static void
ngx_vidgen_sweep_report(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_store_sweep_row_t *row)
{
    int64_t                lost, errors, refunds_due, orphans, apart;
    ngx_vidgen_sweeper_t  *sweeper;

    sweeper = monitor->sweeper;
    lost = ngx_vidgen_store_integer(&row->lost);
    errors = ngx_vidgen_store_integer(&row->refund_errors);
    refunds_due = ngx_vidgen_store_integer(&row->refunds_due);
    orphans = ngx_vidgen_store_integer(&row->old_orphans);
    apart = ngx_vidgen_store_integer(&row->clock) / 1000 - ngx_time();

    if (lost) {
        ngx_log_error(NGX_LOG_WARN, monitor->log, 0,
                      "vidgen: %L attempts are given up as lost, for no"
                      " result came", lost);
    }

    if (errors) {
        ngx_vidgen_metric_add(monitor->conf->zone,
                              NGX_VIDGEN_CREDIT_FUNCTION_ERRORS, errors);
    }

    if (errors && refunds_due != sweeper->refunds_due) {
        ngx_log_error(NGX_LOG_CRIT, monitor->log, 0,
                      "vidgen: %L refunds are due: vidgen.refund_credits"
                      " raises", refunds_due);
    }

    if (sweeper->orphans >= 0 && orphans > sweeper->orphans) {
        ngx_vidgen_metric_add(monitor->conf->zone,
                              NGX_VIDGEN_ORPHANED_RESULTS,
                              orphans - sweeper->orphans);
    }

    sweeper->refunds_due = refunds_due;
    sweeper->orphans = orphans;

    ngx_vidgen_alert_matter(monitor, NGX_VIDGEN_ALERT_ORPHANS, orphans > 0,
                            orphans);
    ngx_vidgen_alert_matter(monitor, NGX_VIDGEN_ALERT_CLOCK,
                            apart > NGX_VIDGEN_SWEEP_APART
                            || apart < -NGX_VIDGEN_SWEEP_APART, apart);
}
