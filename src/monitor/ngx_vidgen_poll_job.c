#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "monitor/ngx_vidgen_poll_int.h"
#include "shm/ngx_vidgen_metric.h"


#define NGX_VIDGEN_POLL_BODY   262144    /* bytes of an answer */
#define NGX_VIDGEN_POLL_RETRY  10        /* seconds, where a 429 names none */


static ngx_int_t ngx_vidgen_poll_job_fill(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_store_due_row_t *row);
static ngx_int_t ngx_vidgen_poll_job_kept(ngx_vidgen_poll_job_t *job,
    ngx_str_t *text);
static ngx_int_t ngx_vidgen_poll_job_pair(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_json_t *json, ngx_str_t *name);
static void ngx_vidgen_poll_job_answered(ngx_vidgen_fetch_request_t *request);
static ngx_uint_t ngx_vidgen_poll_job_status(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_fetch_answer_t *answer);
static ngx_uint_t ngx_vidgen_poll_job_passing(ngx_uint_t status);
static ngx_int_t ngx_vidgen_poll_job_read(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_fetch_answer_t *answer, ngx_vidgen_result_t *result,
    ngx_vidgen_json_t **json);
static ngx_uint_t ngx_vidgen_poll_job_is(ngx_vidgen_poll_job_t *job,
    ngx_str_t *id);
static void ngx_vidgen_poll_job_judge(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_fetch_answer_t *answer);
static void ngx_vidgen_poll_job_word(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_result_t *result);
static ngx_int_t ngx_vidgen_poll_job_then(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_json_t *json);
static void ngx_vidgen_poll_job_impossible(ngx_vidgen_poll_job_t *job);


ngx_vidgen_poll_job_t *
ngx_vidgen_poll_job_create(ngx_vidgen_pollee_t *pollee,
    ngx_vidgen_store_due_row_t *row)
{
    ngx_vidgen_poll_job_t  *job;

    job = ngx_vidgen_monitor_call_create(pollee->poller->monitor,
                                         sizeof(ngx_vidgen_poll_job_t), NULL);
    if (job == NULL) {
        return NULL;
    }

    job->pollee = pollee;
    job->polls = ngx_vidgen_store_integer(&row->polls);

    if (ngx_vidgen_poll_job_fill(job, row) != NGX_OK) {
        ngx_destroy_pool(job->call.pool);
        return NULL;
    }

    return job;
}


static ngx_int_t
ngx_vidgen_poll_job_fill(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_store_due_row_t *row)
{
    ngx_str_t   *values;
    ngx_pool_t  *pool;

    pool = job->call.pool;
    values = job->source.values;

    if (ngx_vidgen_store_copy(pool, &job->attempt, &row->attempt) != NGX_OK
        || ngx_vidgen_store_copy(pool, &job->job, &row->job) != NGX_OK
        || ngx_vidgen_store_copy(pool, &values[NGX_VIDGEN_VALUE_USER],
                                 &row->user) != NGX_OK
        || ngx_vidgen_store_copy(pool, &values[NGX_VIDGEN_VALUE_MODEL],
                                 &row->model) != NGX_OK
        || ngx_vidgen_store_copy(pool, &values[NGX_VIDGEN_VALUE_PROMPT],
                                 &row->prompt) != NGX_OK
        || ngx_vidgen_store_copy(pool,
                              &values[NGX_VIDGEN_VALUE_PROVIDER_JOB_ID],
                              &row->provider_job_id) != NGX_OK)
    {
        return NGX_ERROR;
    }

    values[NGX_VIDGEN_VALUE_ATTEMPT_ID] = job->attempt;

    return ngx_vidgen_poll_job_kept(job, &row->kept);
}


/* what submit's answer had for the poll */
static ngx_int_t
ngx_vidgen_poll_job_kept(ngx_vidgen_poll_job_t *job, ngx_str_t *text)
{
    ngx_str_t             copy;
    ngx_uint_t            i;
    const char           *reason;
    ngx_vidgen_json_t    *json;
    ngx_vidgen_keep_t    *keep;
    ngx_vidgen_submit_t  *submit;

    submit = job->pollee->provider->submit;

    if (ngx_array_init(&job->kept, job->call.pool, 2,
                       sizeof(ngx_vidgen_pair_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    job->source.kept = &job->kept;

    if (text->len == 0 || submit == NULL) {
        return NGX_OK;
    }

    if (ngx_vidgen_store_copy(job->call.pool, &copy, text) != NGX_OK) {
        return NGX_ERROR;
    }

    json = ngx_vidgen_json_parse(job->call.pool, &copy,
                                 NGX_VIDGEN_JSON_PROVIDER, &reason);
    if (json == NULL) {
        return reason ? NGX_OK : NGX_ERROR;
    }

    keep = submit->keep.elts;

    for (i = 0; i < submit->keep.nelts; i++) {
        if (ngx_vidgen_poll_job_pair(job, json, &keep[i].name) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_poll_job_pair(ngx_vidgen_poll_job_t *job, ngx_vidgen_json_t *json,
    ngx_str_t *name)
{
    u_char                *p;
    ngx_int_t              rc;
    ngx_str_t              text, value;
    ngx_pool_t            *pool;
    ngx_vidgen_pair_t     *pair;
    ngx_vidgen_pointer_t   pointer;

    pool = job->call.pool;

    p = ngx_pnalloc(pool, name->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text.data = p;
    text.len = ngx_sprintf(p, "/%V", name) - p;

    if (ngx_vidgen_pointer_compile(pool, &text, &pointer) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_json_string(ngx_vidgen_json_get(json, &pointer), pool,
                                &value);
    if (rc != NGX_OK) {
        return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
    }

    pair = ngx_array_push(&job->kept);
    if (pair == NULL) {
        return NGX_ERROR;
    }

    pair->name = *name;
    pair->value = value;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_poll_job_start(ngx_vidgen_poll_job_t *job)
{
    ngx_int_t                    rc;
    ngx_vidgen_poll_t           *poll;
    ngx_vidgen_provider_t       *provider;
    ngx_vidgen_fetch_request_t  *request;

    provider = job->pollee->provider;
    poll = provider->poll;

    request = ngx_vidgen_monitor_request(job->call.monitor, provider,
                                         job->then ? poll->then
                                                   : &poll->request,
                                         &job->source, job->call.pool, &rc);
    if (request) {
        request->max = NGX_VIDGEN_POLL_BODY;
        request->handler = ngx_vidgen_poll_job_answered;
        request->data = job;

        rc = ngx_vidgen_fetch_start(request);
    }

    if (rc == NGX_DECLINED) {
        ngx_vidgen_poll_job_impossible(job);
        return NGX_OK;
    }

    return rc == NGX_OK ? NGX_OK : NGX_BUSY;
}


static void
ngx_vidgen_poll_job_answered(ngx_vidgen_fetch_request_t *request)
{
    time_t                      after;
    ngx_uint_t                  level;
    ngx_vidgen_poll_job_t      *job;
    ngx_vidgen_fetch_answer_t  *answer;

    job = request->data;
    answer = &request->answer;

    after = ngx_max(answer->retry_after, 0);
    after = ngx_min(after, NGX_VIDGEN_POLL_PAUSE);

    if (answer->status == 429) {
        after = after ? after : NGX_VIDGEN_POLL_RETRY;
        ngx_vidgen_poll_pause(job->pollee, after);
    }

    if (answer->outcome == NGX_VIDGEN_FETCH_ANSWERED) {
        job->answered = (answer->status / 100 == 2
                         || answer->status / 100 == 4)
                        && !ngx_vidgen_poll_job_passing(answer->status);

        if (ngx_vidgen_poll_job_status(job, answer)) {
            ngx_vidgen_poll_job_judge(job, answer);
            return;
        }
    }

    level = answer->outcome == NGX_VIDGEN_FETCH_FAILED ? NGX_LOG_ERR
                                                       : NGX_LOG_INFO;

    ngx_log_error(level, job->call.monitor->log, 0,
                  "vidgen: poll of job \"%V\" at provider \"%V\" failed: HTTP"
                  " %ui, %s", &job->job, &job->pollee->provider->name,
                  answer->status, answer->detail);

    ngx_vidgen_metric_add(job->call.monitor->conf->zone,
                          NGX_VIDGEN_POLL_FAILED, 1);

    ngx_vidgen_poll_again(job, after);
}


/* 1: the status lets the answer be read */
static ngx_uint_t
ngx_vidgen_poll_job_status(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_fetch_answer_t *answer)
{
    ngx_uint_t    i, *code;
    ngx_array_t  *failed;

    if (answer->status / 100 == 2 || !job->then) {
        return answer->status / 100 == 2;
    }

    failed = &job->pollee->provider->poll->then_failed;

    if (!ngx_vidgen_poll_job_passing(answer->status)) {
        return ngx_vidgen_provider_code(failed, answer->status);
    }

    /* a class does not mean these */

    code = failed->elts;

    for (i = 0; i < failed->nelts; i++) {
        if (code[i] == answer->status) {
            return 1;
        }
    }

    return 0;
}


/*
 * 1: a status that is about the one who asks, the moment, or a gateway before
 * the provider, not the job
 */
static ngx_uint_t
ngx_vidgen_poll_job_passing(ngx_uint_t status)
{
    switch (status) {

    case 401:
    case 402:
    case 403:
    case 407:
    case 408:
    case 425:
    case 429:
    case 502:
    case 503:
    case 504:
        return 1;

    default:
        return status / 10 == 52;
    }
}


static void
ngx_vidgen_poll_job_judge(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_fetch_answer_t *answer)
{
    ngx_uint_t            failed;
    ngx_vidgen_json_t    *json;
    ngx_vidgen_result_t   result;

    /* what is no success at the second step is a failure, JSON or not */

    failed = answer->status / 100 != 2;

    if (ngx_vidgen_poll_job_read(job, answer, &result, &json) != NGX_OK
        && !failed)
    {
        job->answered = 0;

        ngx_vidgen_metric_add(job->call.monitor->conf->zone,
                              NGX_VIDGEN_POLL_FAILED, 1);
        ngx_vidgen_poll_again(job, 0);
        return;
    }

    if (failed) {
        result.status = NGX_VIDGEN_STATUS_FAILED;

    } else if (job->then && result.video_url.len) {
        result.status = NGX_VIDGEN_STATUS_COMPLETED;

    } else if (!job->then && json && job->pollee->provider->poll->then
               && result.status == NGX_VIDGEN_STATUS_COMPLETED
               && result.video_url.len == 0)
    {
        if (ngx_vidgen_poll_job_then(job, json) != NGX_OK) {
            ngx_vidgen_poll_again(job, 0);
        }

        return;

    } else if (result.wildcard && result.status == NGX_VIDGEN_STATUS_FAILED) {
        ngx_vidgen_poll_job_word(job, &result);
    }

    ngx_vidgen_poll_apply(job, &result);
}


/*
 * A word that only "*" takes for a failure: nobody is left to confirm it, so
 * it says nothing.
 */
static void
ngx_vidgen_poll_job_word(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_result_t *result)
{
    result->status = NGX_VIDGEN_STATUS_NONE;

    ngx_log_error(NGX_LOG_INFO, job->call.monitor->log, 0,
                  "vidgen: poll of job \"%V\" at provider \"%V\": \"%V\" is"
                  " no word of its definition, and no verdict", &job->job,
                  &job->pollee->provider->name, &result->word);
}


/* NGX_OK; NGX_DECLINED: it says nothing; result is filled in any case */
static ngx_int_t
ngx_vidgen_poll_job_read(ngx_vidgen_poll_job_t *job,
    ngx_vidgen_fetch_answer_t *answer, ngx_vidgen_result_t *result,
    ngx_vidgen_json_t **json)
{
    ngx_int_t           rc;
    ngx_pool_t         *pool;
    const char         *reason;
    ngx_vidgen_poll_t  *poll;

    pool = job->call.pool;
    poll = job->pollee->provider->poll;

    ngx_memzero(result, sizeof(ngx_vidgen_result_t));

    *json = ngx_vidgen_json_parse(pool, &answer->body,
                                  NGX_VIDGEN_JSON_PROVIDER, &reason);
    if (*json == NULL) {
        return NGX_DECLINED;
    }

    /* a refusal of the question is no failure of the job */

    if (!job->then
        && (ngx_vidgen_provider_condition(&poll->refuse, *json, pool)
            || ngx_vidgen_provider_condition(&poll->retry, *json, pool)
            || !ngx_vidgen_provider_accepted(&poll->accept, *json, pool)))
    {
        return NGX_DECLINED;
    }

    rc = ngx_vidgen_provider_read(&poll->reading, *json, pool, result,
                                  &reason);

    if (rc == NGX_OK && !ngx_vidgen_poll_job_is(job, &result->job_id)) {
        ngx_log_error(NGX_LOG_ERR, job->call.monitor->log, 0,
                      "vidgen: poll of job \"%V\" at provider \"%V\" was"
                      " answered with another job's state: \"%V\"", &job->job,
                      &job->pollee->provider->name, &result->job_id);
        return NGX_DECLINED;
    }

    return rc;
}


/* 1: the answer is about this job, as far as it says */
static ngx_uint_t
ngx_vidgen_poll_job_is(ngx_vidgen_poll_job_t *job, ngx_str_t *id)
{
    ngx_str_t  *own;

    own = &job->source.values[NGX_VIDGEN_VALUE_PROVIDER_JOB_ID];

    return id->len == 0 || ngx_vidgen_text_same(id, own);
}


static ngx_int_t
ngx_vidgen_poll_job_then(ngx_vidgen_poll_job_t *job, ngx_vidgen_json_t *json)
{
    job->then = 1;
    job->answered = 0;

    if (ngx_vidgen_provider_keep(&job->pollee->provider->poll->keep, json,
                                 job->call.pool, &job->kept)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vidgen_poll_job_start(job);
}


/* no answer will ever be had; said loudly once, for each poll finds it again */
static void
ngx_vidgen_poll_job_impossible(ngx_vidgen_poll_job_t *job)
{
    ngx_uint_t            level;
    ngx_vidgen_pollee_t  *pollee;

    pollee = job->pollee;
    level = pollee->told ? NGX_LOG_INFO : NGX_LOG_CRIT;

    ngx_log_error(level, job->call.monitor->log, 0,
                  "vidgen: job \"%V\" cannot be polled at provider \"%V\","
                  " and perhaps none of its jobs: a value cannot stand in the"
                  " request, or a kept URL leads to a host that the"
                  " definition does not name", &job->job,
                  &pollee->provider->name);

    pollee->told = 1;
    job->answered = 1;

    ngx_vidgen_poll_again(job, 0);
}
