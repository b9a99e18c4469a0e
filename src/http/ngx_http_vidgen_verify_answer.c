#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_verify_answer.h"
#include "shm/ngx_vidgen_metric.h"


static ngx_uint_t ngx_http_vidgen_verify_dry_run(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx);


ngx_int_t
ngx_http_vidgen_verify_replay(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx)
{
    ngx_http_vidgen_main_conf_t  *mcf;

    static ngx_str_t  success = ngx_string("{\"success\":true}");

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    ctx->replay = 1;
    ngx_str_set(&ctx->outcome, "replay");

    if (ngx_http_vidgen_verify_dry_run(r, ctx)) {
        return NGX_DECLINED;
    }

    ngx_vidgen_metric_add(mcf->zone, NGX_VIDGEN_VERIFY_REPLAY, 1);

    if (ngx_http_vidgen_add_replay(r) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_vidgen_send(r, NGX_HTTP_OK, &success);
}


ngx_int_t
ngx_http_vidgen_verify_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_verify_t *verify, ngx_http_vidgen_error_e error)
{
    ngx_uint_t                    status;
    ngx_vidgen_metric_e           metric;
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
    ctx = ngx_http_vidgen_ctx(r, 0);

    ctx->checked = 1;
    ctx->outcome = *ngx_http_vidgen_error_code(error);

    if (ngx_http_vidgen_verify_dry_run(r, ctx)) {
        return NGX_DECLINED;
    }

    status = ngx_http_vidgen_error_status(error);

    metric = error == NGX_HTTP_VIDGEN_IN_FLIGHT ? NGX_VIDGEN_VERIFY_IN_FLIGHT
             : status == 503 ? NGX_VIDGEN_VERIFY_UNAVAILABLE
             : status == 401 ? NGX_VIDGEN_VERIFY_BAD_SIGNATURE
             : NGX_VIDGEN_VERIFY_BAD_REQUEST;

    ngx_vidgen_metric_add(mcf->zone, metric, 1);

    verify->refused = 1;
    verify->error = error;

    return ngx_http_vidgen_verify_error(r, error);
}


ngx_int_t
ngx_http_vidgen_verify_error(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error)
{
    return error == NGX_HTTP_VIDGEN_WRONG_METHOD
           ? ngx_http_vidgen_send_wrong_method(r, "POST")
           : ngx_http_vidgen_send_error(r, error, NULL);
}


/* 1: what would have been held back is passed on, counted and logged */

static ngx_uint_t
ngx_http_vidgen_verify_dry_run(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx)
{
    ngx_uint_t                    level;
    ngx_http_vidgen_loc_conf_t   *lcf;
    ngx_http_vidgen_main_conf_t  *mcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_vidgen_module);

    if (!lcf->dry_run) {
        return 0;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    ngx_vidgen_metric_add(mcf->zone, NGX_VIDGEN_VERIFY_DRY_RUN, 1);

    level = ctx->verified ? NGX_LOG_NOTICE : NGX_LOG_WARN;

    ngx_log_error(level, ngx_http_vidgen_event_log(r), 0,
                  "vidgen: dry run: passed on a webhook of provider \"%V\""
                  " that would be answered: %V, client: %V", &ctx->provider,
                  &ctx->outcome, &r->connection->addr_text);

    return 1;
}
