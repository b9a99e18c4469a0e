#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_closer.h"
#include "http/ngx_http_vidgen_live.h"
#include "http/ngx_http_vidgen_next.h"
#include "shm/ngx_vidgen_health.h"


#define NGX_HTTP_VIDGEN_COOLDOWN  10     /* seconds, where a 429 names none */


static void ngx_http_vidgen_next_note(ngx_http_vidgen_operation_t *op);
static ngx_http_vidgen_error_e ngx_http_vidgen_next_failure(
    ngx_http_vidgen_operation_t *op);
static ngx_http_vidgen_candidate_t *ngx_http_vidgen_next_in_round(
    ngx_http_vidgen_operation_t *op);
static ngx_http_vidgen_candidate_t *ngx_http_vidgen_next_in_later_round(
    ngx_http_vidgen_operation_t *op, ngx_msec_t *pause);
static ngx_msec_t ngx_http_vidgen_next_backoff(
    ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_timer(ngx_event_t *ev);
static void ngx_http_vidgen_next_move(ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_moved(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result);


void
ngx_http_vidgen_next_decide(ngx_http_vidgen_operation_t *op)
{
    ngx_msec_t  pause;

    ngx_http_vidgen_next_note(op);

    op->next = NULL;
    pause = 0;

    if (op->task.request && (op->verdict.next & op->lcf->next_provider)) {

        op->next = ngx_http_vidgen_next_in_round(op);

        if (op->next == NULL) {
            op->next = ngx_http_vidgen_next_in_later_round(op, &pause);
        }
    }

    if (op->next == NULL) {
        ngx_http_vidgen_closer_abandon(op, ngx_http_vidgen_next_failure(op));
        return;
    }

    if (pause == 0) {
        ngx_http_vidgen_next_move(op);
        return;
    }

    /* the attempt stays open, so that nothing settles during the pause */

    op->timer.handler = ngx_http_vidgen_next_timer;
    op->timer.data = op;
    op->timer.log = op->task.log;

    ngx_add_timer(&op->timer, pause);
}


/* what this attempt means for its candidate, here and for all workers */
static void
ngx_http_vidgen_next_note(ngx_http_vidgen_operation_t *op)
{
    time_t                        pause;
    ngx_http_vidgen_candidate_t  *candidate;

    candidate = op->candidate;

    if (!(op->verdict.next & NGX_VIDGEN_NEXT_HTTP_429)) {
        op->throttled = 0;

    } else {
        pause = op->attempt.retry_after > 0 ? op->attempt.retry_after
                                            : NGX_HTTP_VIDGEN_COOLDOWN;
        candidate->retry_at = ngx_time() + pause;

        ngx_vidgen_health_cooldown(op->mcf->zone, &candidate->provider->name,
                                   candidate->retry_at);
    }

    /* never the same provider again while it may have this job */

    if (op->verdict.state == NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN
        || !(op->verdict.next & op->lcf->next_provider))
    {
        candidate->closed = 1;
    }
}


static ngx_http_vidgen_error_e
ngx_http_vidgen_next_failure(ngx_http_vidgen_operation_t *op)
{
    if (op->verdict.content) {
        return NGX_HTTP_VIDGEN_PROVIDER_REFUSED;
    }

    return op->throttled ? NGX_HTTP_VIDGEN_NO_PROVIDER
                         : NGX_HTTP_VIDGEN_PROVIDER_FAILED;
}


/* one that was not asked in this round and did not ask for a pause */
static ngx_http_vidgen_candidate_t *
ngx_http_vidgen_next_in_round(ngx_http_vidgen_operation_t *op)
{
    ngx_uint_t                    i, asked;
    ngx_http_vidgen_candidate_t  *candidate;

    if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) <= 0) {
        return NULL;
    }

    asked = 0;
    candidate = op->candidates.elts;

    for (i = 0; i < op->candidates.nelts; i++) {
        asked += candidate[i].asked;
    }

    if (op->lcf->next_provider_tries && asked >= op->lcf->next_provider_tries)
    {
        return NULL;
    }

    for (i = 0; i < op->candidates.nelts; i++) {
        if (!candidate[i].closed
            && candidate[i].asked < op->round
            && candidate[i].retry_at <= ngx_time()
            && ngx_http_vidgen_live_admit(op, &candidate[i]))
        {
            return &candidate[i];
        }
    }

    return NULL;
}


/* the one that may be asked first, if that is before the deadline */
static ngx_http_vidgen_candidate_t *
ngx_http_vidgen_next_in_later_round(ngx_http_vidgen_operation_t *op,
    ngx_msec_t *pause)
{
    ngx_uint_t                    i, asked;
    ngx_msec_t                    backoff, wait;
    ngx_http_vidgen_candidate_t  *candidate, *next;

    next = NULL;
    asked = 0;
    backoff = ngx_http_vidgen_next_backoff(op);
    candidate = op->candidates.elts;

    for (i = 0; i < op->candidates.nelts; i++) {
        asked += candidate[i].asked;

        if (candidate[i].closed
            || candidate[i].asked >= op->lcf->retry_attempts
            || ngx_vidgen_health_admit(op->mcf->zone,
                                       &candidate[i].provider->name,
                                       &op->mcf->monitor.rule, 0) != NGX_OK)
        {
            continue;
        }

        wait = backoff;

        if (candidate[i].retry_at > ngx_time()) {
            wait = (candidate[i].retry_at - ngx_time()) * 1000;
        }

        if (next == NULL || wait < *pause) {
            next = &candidate[i];
            *pause = wait;
        }
    }

    if (next == NULL
        || (op->lcf->next_provider_tries
            && asked >= op->lcf->next_provider_tries)
        || (ngx_msec_int_t) (op->deadline - ngx_current_msec - *pause) <= 0)
    {
        return NULL;
    }

    op->round++;

    return next;
}


/* exponential, with jitter: half of it is certain */
static ngx_msec_t
ngx_http_vidgen_next_backoff(ngx_http_vidgen_operation_t *op)
{
    ngx_uint_t  i;
    ngx_msec_t  backoff;

    backoff = op->lcf->retry_backoff;

    for (i = 1; i < op->round && backoff < op->lcf->retry_max; i++) {
        backoff *= 2;
    }

    backoff = ngx_min(backoff, op->lcf->retry_max);

    return backoff / 2 + ngx_random() % (backoff / 2 + 1) + 1;
}


static void
ngx_http_vidgen_next_timer(ngx_event_t *ev)
{
    ngx_http_vidgen_next_move(ev->data);
}


/* closes the attempt and opens the next one, in one call */
static void
ngx_http_vidgen_next_move(ngx_http_vidgen_operation_t *op)
{
    ngx_pool_t                       *pool;
    ngx_vidgen_store_next_attempt_t  *params;

    pool = op->task.pool;
    params = &op->params.next_attempt;

    ngx_memzero(params, sizeof(ngx_vidgen_store_next_attempt_t));

    params->job = op->job;
    params->attempt = op->attempt_id;
    params->state = ngx_vidgen_attempt_state_names[op->verdict.state];
    params->provider = op->next->provider->name;
    params->next.data = op->next_text;
    params->next.len = NGX_VIDGEN_UUID_LEN;

    if (ngx_vidgen_uuid7(op->next_text) != NGX_OK
        || ngx_http_vidgen_operation_lease(op, &params->lease) != NGX_OK
        || ngx_http_vidgen_task_copy(pool, &params->reason,
                                     &op->verdict.reason) != NGX_OK
        || ngx_http_vidgen_task_copy(pool, &params->error,
                                     &op->verdict.message) != NGX_OK
        || (op->attempt.response.http_status
            && ngx_http_vidgen_task_number(pool, &params->http_status,
                                           op->attempt.response.http_status)
               != NGX_OK))
    {
        ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_PROVIDER_FAILED);
        return;
    }

    ngx_http_vidgen_closer_call(op, NGX_VIDGEN_STORE_NEXT_ATTEMPT,
                                ngx_http_vidgen_next_moved);
}


static void
ngx_http_vidgen_next_moved(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_store_next_attempt_row_t  row;

    (void) ngx_vidgen_store_row(result, &row, sizeof(row));

    if (!ngx_vidgen_store_is(&row.outcome, "go")) {
        /* a result has settled it, or the provider has this job already */
        ngx_http_vidgen_closer_abandon(op, ngx_http_vidgen_next_failure(op));
        return;
    }

    ngx_memcpy(op->attempt_text, op->next_text, NGX_VIDGEN_UUID_LEN);
    op->candidate = op->next;

    ngx_http_vidgen_operation_attempt(op);
}
