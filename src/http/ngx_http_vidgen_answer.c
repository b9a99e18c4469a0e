#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_answer.h"
#include "shm/ngx_vidgen_metric.h"


typedef struct {
    ngx_str_t                  outcome;      /* of vidgen.begin */
    ngx_http_vidgen_error_e    error;
} ngx_http_vidgen_answer_refusal_t;


static void ngx_http_vidgen_answer_outcome(ngx_http_vidgen_operation_t *op,
    char *outcome);
static void ngx_http_vidgen_answer_replay(ngx_http_vidgen_operation_t *op);
static ngx_uint_t ngx_http_vidgen_answer_is_success(
    ngx_vidgen_store_submitted_row_t *row);
static void ngx_http_vidgen_answer_recorded(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_submitted_row_t *row);
static ngx_vidgen_metric_e ngx_http_vidgen_answer_metric(
    ngx_http_vidgen_error_e error);


static ngx_http_vidgen_answer_refusal_t  ngx_http_vidgen_answer_refusals[] = {
    { ngx_string("running"), NGX_HTTP_VIDGEN_STILL_RUNNING },
    { ngx_string("mismatch"), NGX_HTTP_VIDGEN_KEY_MISMATCH },
    { ngx_string("unknown_model"), NGX_HTTP_VIDGEN_UNKNOWN_MODEL },
    { ngx_string("wrong_provider"), NGX_HTTP_VIDGEN_WRONG_PROVIDER },
    { ngx_string("no_provider"), NGX_HTTP_VIDGEN_NO_PROVIDER },
    { ngx_string("insufficient_credits"),
      NGX_HTTP_VIDGEN_INSUFFICIENT_CREDITS },
    { ngx_null_string, NGX_HTTP_VIDGEN_UNAVAILABLE }
};


void
ngx_http_vidgen_answer_error(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_error_e error, ngx_str_t *detail, ngx_uint_t with_job)
{
    ngx_int_t                      rc;
    ngx_http_request_t            *r;
    ngx_http_vidgen_error_info_t   info;

    r = op->task.request;

    if (r == NULL) {
        return;
    }

    if (!op->task.ctx->replay) {
        ngx_vidgen_metric_add(op->mcf->zone,
                              ngx_http_vidgen_answer_metric(error), 1);

        op->task.ctx->outcome = *ngx_http_vidgen_error_code(error);
    }

    ngx_memzero(&info, sizeof(info));

    if (detail) {
        info.detail = *detail;
    }

    if (error == NGX_HTTP_VIDGEN_NO_PROVIDER) {
        info.retry_after = ngx_vidgen_route_wait(
                         op->lcf->candidates ? op->lcf->candidates
                                             : &op->mcf->submitters,
                         op->mcf->zone, &op->mcf->monitor.rule);
    }

    if (with_job) {
        info.job_id = op->job;
        ngx_http_vidgen_ctx_keep(r, &op->task.ctx->job_id, &op->job);
    }

    rc = ngx_http_vidgen_send_error(r, error, &info);

    ngx_http_vidgen_task_answer(&op->task, rc);
}


void
ngx_http_vidgen_answer_generation(ngx_http_vidgen_operation_t *op,
    ngx_uint_t status, ngx_http_vidgen_generation_t *generation)
{
    ngx_int_t               rc;
    ngx_http_request_t     *r;
    ngx_http_vidgen_ctx_t  *ctx;

    r = op->task.request;

    if (r == NULL) {
        return;
    }

    ctx = op->task.ctx;
    ngx_http_vidgen_ctx_keep(r, &ctx->job_id, &generation->job_id);
    ngx_http_vidgen_ctx_keep(r, &ctx->provider, &generation->provider);
    ngx_http_vidgen_ctx_keep(r, &ctx->job_status, &generation->status);

    rc = ngx_http_vidgen_send_generation(r, status, generation);

    ngx_http_vidgen_task_answer(&op->task, rc);
}


void
ngx_http_vidgen_answer_processing(ngx_http_vidgen_operation_t *op,
    ngx_str_t *provider)
{
    ngx_http_vidgen_generation_t  generation;

    ngx_memzero(&generation, sizeof(generation));

    generation.job_id = op->job;
    generation.provider = *provider;
    ngx_str_set(&generation.status, "processing");

    ngx_vidgen_metric_add(op->mcf->zone, NGX_VIDGEN_GENERATE_UNKNOWN, 1);
    ngx_http_vidgen_answer_outcome(op, "unknown");
    ngx_http_vidgen_answer_generation(op, NGX_HTTP_ACCEPTED, &generation);
}


void
ngx_http_vidgen_answer_accepted(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_abandon_row_t *row)
{
    ngx_http_vidgen_generation_t  generation;

    ngx_memzero(&generation, sizeof(generation));

    generation.job_id = op->job;
    generation.provider = row->provider;
    generation.status = row->status;

    ngx_vidgen_metric_add(op->mcf->zone, NGX_VIDGEN_GENERATE_ACCEPTED, 1);
    ngx_http_vidgen_answer_outcome(op, "accepted");
    ngx_http_vidgen_answer_generation(op, NGX_HTTP_OK, &generation);
}


static void
ngx_http_vidgen_answer_outcome(ngx_http_vidgen_operation_t *op, char *outcome)
{
    if (op->task.request == NULL) {
        return;
    }

    op->task.ctx->outcome.data = (u_char *) outcome;
    op->task.ctx->outcome.len = ngx_strlen(outcome);
}


void
ngx_http_vidgen_answer_begin(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_begin_row_t *row)
{
    ngx_http_vidgen_generation_t       generation;
    ngx_vidgen_store_submitted_row_t   stored;
    ngx_http_vidgen_answer_refusal_t  *refusal;

    if (ngx_vidgen_store_is(&row->outcome, "replay")) {

        ngx_memzero(&stored, sizeof(ngx_vidgen_store_submitted_row_t));

        stored.outcome = row->outcome;
        stored.job = row->job;
        stored.http_status = row->http_status;
        stored.provider = row->provider;
        stored.status = row->status;
        stored.estimated_time = row->estimated_time;
        stored.error = row->error;
        stored.code = row->code;

        /* not final while a refund is due */

        if (!ngx_vidgen_store_is(&row->http_status, "504")) {
            ngx_http_vidgen_answer_replay(op);
        }

        ngx_http_vidgen_answer_recorded(op, &stored);
        return;
    }

    if (ngx_vidgen_store_is(&row->outcome, "processing")) {
        ngx_memzero(&generation, sizeof(generation));
        generation.job_id = row->job;
        generation.provider = row->provider;
        ngx_str_set(&generation.status, "processing");

        ngx_http_vidgen_answer_outcome(op, "unknown");
        ngx_http_vidgen_answer_generation(op, NGX_HTTP_ACCEPTED, &generation);
        return;
    }

    for (refusal = ngx_http_vidgen_answer_refusals;
         refusal->outcome.len;
         refusal++)
    {
        if (ngx_vidgen_text_same(&refusal->outcome, &row->outcome)) {
            break;
        }
    }

    if (refusal->outcome.len == 0) {
        ngx_log_error(NGX_LOG_ERR, op->task.log, 0,
                      "vidgen: credits could not be held (%V): %V",
                      &row->outcome, &row->error);
        ngx_str_null(&row->error);
    }

    ngx_http_vidgen_answer_error(op, refusal->error,
                                 row->error.len ? &row->error : NULL, 0);
}


static void
ngx_http_vidgen_answer_replay(ngx_http_vidgen_operation_t *op)
{
    if (op->task.request) {
        op->task.ctx->replay = 1;
        (void) ngx_http_vidgen_add_replay(op->task.request);
    }

    ngx_vidgen_metric_add(op->mcf->zone, NGX_VIDGEN_GENERATE_REPLAY, 1);
    ngx_http_vidgen_answer_outcome(op, "replay");
}


void
ngx_http_vidgen_answer_submitted(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_submitted_row_t *row)
{
    /*
     * Otherwise its result was parked already and is a failure, or its job id
     * is another attempt's.
     */

    if (ngx_vidgen_store_is(&row->http_status, "202")) {
        ngx_vidgen_metric_add(op->mcf->zone, NGX_VIDGEN_GENERATE_UNKNOWN, 1);
        ngx_http_vidgen_answer_outcome(op, "unknown");

    } else if (ngx_http_vidgen_answer_is_success(row)) {
        ngx_vidgen_metric_add(op->mcf->zone, NGX_VIDGEN_GENERATE_ACCEPTED, 1);
        ngx_http_vidgen_answer_outcome(op, "accepted");
    }

    ngx_http_vidgen_answer_recorded(op, row);
}


static ngx_uint_t
ngx_http_vidgen_answer_is_success(ngx_vidgen_store_submitted_row_t *row)
{
    return row->http_status.len == 3 && row->http_status.data[0] == '2';
}


/* as it was stored: the first answer and its replays are the same bytes */
static void
ngx_http_vidgen_answer_recorded(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_submitted_row_t *row)
{
    ngx_http_vidgen_error_e       error;
    ngx_http_vidgen_generation_t  generation;

    if (ngx_http_vidgen_answer_is_success(row)) {
        generation.job_id = row->job;
        generation.provider = row->provider;
        generation.status = row->status;
        generation.estimated_time = row->estimated_time;

        ngx_http_vidgen_answer_generation(op,
                                  ngx_atoi(row->http_status.data, 3),
                                  &generation);
        return;
    }

    if (ngx_http_vidgen_error_by_code(&row->code, &error) != NGX_OK) {
        error = NGX_HTTP_VIDGEN_PROVIDER_FAILED;
    }

    /* a replay is of another job than the one that this request prepared */

    if (row->job.len == NGX_VIDGEN_UUID_LEN) {
        ngx_memcpy(op->job.data, row->job.data, NGX_VIDGEN_UUID_LEN);
    }

    if (op->task.request) {
        ngx_http_vidgen_ctx_keep(op->task.request,
                                 &op->task.ctx->job_status, &row->status);
    }

    ngx_http_vidgen_answer_error(op, error,
                                 row->error.len ? &row->error : NULL, 1);
}


static ngx_vidgen_metric_e
ngx_http_vidgen_answer_metric(ngx_http_vidgen_error_e error)
{
    switch (ngx_http_vidgen_error_status(error)) {

    case 502:
        return NGX_VIDGEN_GENERATE_FAILED;

    case 503:
        return NGX_VIDGEN_GENERATE_UNAVAILABLE;

    case 504:
        return NGX_VIDGEN_GENERATE_UNKNOWN;

    default:
        return error == NGX_HTTP_VIDGEN_PROVIDER_REFUSED
               ? NGX_VIDGEN_GENERATE_FAILED
               : NGX_VIDGEN_GENERATE_REJECTED;
    }
}
