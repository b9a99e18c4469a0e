#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "monitor/ngx_vidgen_poll_int.h"
#include "shm/ngx_vidgen_metric.h"


#define NGX_VIDGEN_POLL_BACKOFF  60000   /* ms, at most */


static void ngx_vidgen_poll_applied(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_vidgen_poll_report(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_store_apply_row_t *row);
static void ngx_vidgen_poll_done(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);


void
ngx_vidgen_poll_apply(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_result_t *result)
{
    ngx_uint_t                   ended;
    ngx_pool_t                  *pool;
    ngx_vidgen_monitor_conf_t   *conf;
    ngx_vidgen_store_apply_t    *params;

    pool = job->call.pool;
    conf = job->call.monitor->conf;
    params = &job->params.apply;

    ended = result->status == NGX_VIDGEN_STATUS_FAILED
            || (result->status == NGX_VIDGEN_STATUS_COMPLETED
                && result->video_url.len);

    ngx_vidgen_metric_add(conf->zone, ended ? NGX_VIDGEN_POLL_ENDED
                                            : NGX_VIDGEN_POLL_OPEN, 1);

    if (!ended && result->status != NGX_VIDGEN_STATUS_PROCESSING) {
        ngx_vidgen_poll_again(job, 0);
        return;
    }

    ngx_memzero(params, sizeof(ngx_vidgen_store_apply_t));

    params->provider = job->pollee->provider->name;
    params->attempt = job->attempt;
    params->provider_job_id =
                        job->source.values[NGX_VIDGEN_VALUE_PROVIDER_JOB_ID];
    params->status = ngx_vidgen_status_names[result->status];
    params->verdict = ngx_vidgen_store_boolean[1];
    params->first_provider = ngx_vidgen_store_boolean[
                                          job->pollee->provider->index == 0];
    ngx_str_set(&params->source, "poll");

    job->call.call.handler = ngx_vidgen_poll_applied;

    if (ngx_vidgen_store_copy(pool, &params->video_url, &result->video_url)
        != NGX_OK
        || ngx_vidgen_store_copy(pool, &params->error, &result->error)
           != NGX_OK
        || ngx_vidgen_text_number(pool, &params->ttl, conf->ttl) != NGX_OK
        || ngx_vidgen_monitor_call_start(&job->call, NGX_VIDGEN_STORE_APPLY,
                                         params) != NGX_OK)
    {
        ngx_vidgen_poll_again(job, 0);
    }
}


static void
ngx_vidgen_poll_applied(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_poll_job_t *job = call->data;

    ngx_vidgen_pollee_t           *pollee;
    ngx_vidgen_store_apply_row_t   row;

    pollee = job->pollee;

    if (ngx_vidgen_monitor_call_check(&job->call, result) == NGX_OK
        && ngx_vidgen_store_row(result, &row, sizeof(row)) == NGX_OK)
    {
        ngx_vidgen_poll_report(job, &row);

        if (ngx_vidgen_store_is(&job->params.apply.status, "processing")) {
            ngx_vidgen_poll_again(job, 0);
            return;
        }
    }

    /* what could not be applied is leased again when its lease is over */

    ngx_destroy_pool(job->call.pool);
    ngx_vidgen_poll_ended(pollee);
}


static void
ngx_vidgen_poll_report(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_store_apply_row_t *row)
{
    ngx_log_t          *log;
    ngx_vidgen_zone_t  *zone;

    log = job->call.monitor->log;
    zone = job->call.monitor->conf->zone;

    if (ngx_vidgen_store_true(&row->changed)) {
        ngx_vidgen_store_notify(job->call.monitor->store, &row->job);
    }

    if (ngx_vidgen_store_is(&row->outcome, "late")) {
        ngx_vidgen_metric_add(zone, NGX_VIDGEN_LATE_RESULTS, 1);
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "vidgen: a poll of provider \"%V\" found a result that"
                      " is late: job \"%V\"", &job->pollee->provider->name,
                      &job->job);
    }

    ngx_vidgen_store_refund_error(zone, log, &job->job, &row->refund_error);
}


/* later, the longer the more often it was polled */
void
ngx_vidgen_poll_again(ngx_vidgen_poll_job_t *job, time_t after)
{
    ngx_uint_t                   i;
    ngx_msec_t                   ms, max;
    ngx_pool_t                  *pool;
    ngx_vidgen_pollee_t         *pollee;
    ngx_vidgen_store_polled_t   *params;

    pool = job->call.pool;
    pollee = job->pollee;
    params = &job->params.polled;

    ms = job->call.monitor->conf->poll;
    max = ngx_max(ms, NGX_VIDGEN_POLL_BACKOFF);

    for (i = 1; i < job->polls && ms < max; i++) {
        ms += ms / 2;
    }

    ms = ngx_vidgen_monitor_jitter(ngx_min(ms, max));
    ms = ngx_max(ms, (ngx_msec_t) after * 1000);

    params->attempt = job->attempt;
    params->answered = ngx_vidgen_store_boolean[job->answered];
    job->call.call.handler = ngx_vidgen_poll_done;

    if (ngx_vidgen_text_number(pool, &params->due, ms) == NGX_OK
        && ngx_vidgen_text_number(pool, &params->polls, job->polls) == NGX_OK
        && ngx_vidgen_monitor_call_start(&job->call, NGX_VIDGEN_STORE_POLLED,
                                         params) == NGX_OK)
    {
        return;
    }

    ngx_destroy_pool(pool);
    ngx_vidgen_poll_ended(pollee);
}


static void
ngx_vidgen_poll_done(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_poll_job_t *job = call->data;

    ngx_vidgen_pollee_t  *pollee;

    pollee = job->pollee;

    (void) ngx_vidgen_monitor_call_check(&job->call, result);

    ngx_destroy_pool(job->call.pool);
    ngx_vidgen_poll_ended(pollee);
}
