#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_id.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_webhook_answer.h"
#include "shm/ngx_vidgen_metric.h"


ngx_int_t
ngx_http_vidgen_webhook_answer(ngx_http_request_t *r,
    ngx_vidgen_store_apply_row_t *row)
{
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_ctx(r, 0);

    ngx_http_vidgen_ctx_keep(r, &ctx->outcome, &row->outcome);
    ngx_http_vidgen_ctx_keep(r, &ctx->job_id, &row->job);
    ngx_http_vidgen_ctx_keep(r, &ctx->job_status, &row->status);

    if (ngx_vidgen_store_is(&row->outcome, "not_found")) {
        return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_UNKNOWN_JOB,
                                          NULL);
    }

    if (ngx_vidgen_store_is(&row->outcome, "mismatch")) {
        return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_WRONG_JOB, NULL);
    }

    if (ngx_vidgen_store_true(&row->replay)) {
        ctx->replay = 1;

        if (ngx_http_vidgen_add_replay(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_vidgen_send_success(r, &row->job);
}


ngx_int_t
ngx_http_vidgen_webhook_replay(ngx_http_request_t *r,
    ngx_vidgen_seen_value_t *value)
{
    u_char                        text[NGX_VIDGEN_UUID_LEN];
    ngx_str_t                     job;
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
    ctx = ngx_http_vidgen_ctx(r, 0);

    job.data = text;
    job.len = ngx_vidgen_uuid_print(text, value->job) - text;

    ngx_vidgen_metric_add(mcf->zone, NGX_VIDGEN_WEBHOOK_REPLAY, 1);
    ngx_http_vidgen_ctx_keep(r, &ctx->job_id, &job);
    ngx_str_set(&ctx->outcome, "replay");
    ctx->job_status = ngx_vidgen_status_names[value->job_status
                                              % (NGX_VIDGEN_STATUS_FAILED + 1)];
    ctx->replay = 1;

    if (ngx_http_vidgen_add_replay(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vidgen_send_success(r, &job);
}


ngx_int_t
ngx_http_vidgen_webhook_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail)
{
    ngx_uint_t                    status;
    ngx_vidgen_metric_e           metric;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
    status = ngx_http_vidgen_error_status(error);

    metric = status == 503 ? NGX_VIDGEN_WEBHOOK_UNAVAILABLE
             : status == 401 ? NGX_VIDGEN_WEBHOOK_BAD_SIGNATURE
             : NGX_VIDGEN_WEBHOOK_BAD_REQUEST;

    ngx_vidgen_metric_add(mcf->zone, metric, 1);

    return ngx_http_vidgen_send_refusal(r, error, detail);
}
