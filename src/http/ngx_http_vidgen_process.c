#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_keyring.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_process.h"


static ngx_vidgen_store_t  *ngx_http_vidgen_process_store;


ngx_int_t
ngx_http_vidgen_init_process(ngx_cycle_t *cycle)
{
    ngx_http_vidgen_main_conf_t  *mcf;

    /* the helper processes run this too */

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_vidgen_module);

    ngx_http_vidgen_process_store = NULL;

    if (mcf && mcf->zone
        && ngx_vidgen_keyring_start(cycle, &mcf->monitor) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf == NULL || mcf->database == NULL) {
        return NGX_OK;
    }

    ngx_http_vidgen_process_store = ngx_vidgen_store_create(cycle,
                                                            mcf->database);

    return ngx_http_vidgen_process_store ? NGX_OK : NGX_ERROR;
}


void
ngx_http_vidgen_exit_process(ngx_cycle_t *cycle)
{
    ngx_vidgen_keyring_stop();

    if (ngx_http_vidgen_process_store) {
        ngx_vidgen_store_destroy(ngx_http_vidgen_process_store);
        ngx_http_vidgen_process_store = NULL;
    }
}


ngx_vidgen_store_t *
ngx_http_vidgen_store(void)
{
    return ngx_http_vidgen_process_store;
}


ngx_int_t
ngx_http_vidgen_store_start(ngx_http_vidgen_ctx_t *ctx,
    ngx_vidgen_store_statement_e statement, ngx_vidgen_pg_call_t *call,
    void *params)
{
    if (ngx_http_vidgen_process_store == NULL) {
        return NGX_BUSY;
    }

    if (ctx) {
        ctx->db_started = ngx_current_msec;
        ctx->db_used = 1;
    }

    return ngx_vidgen_store_start(ngx_http_vidgen_process_store, statement,
                                  call, params);
}


void
ngx_http_vidgen_store_done(ngx_http_vidgen_ctx_t *ctx)
{
    if (ctx) {
        ctx->db_time += ngx_current_msec - ctx->db_started;
    }
}
