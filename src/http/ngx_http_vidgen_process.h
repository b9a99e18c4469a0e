#ifndef _NGX_HTTP_VIDGEN_PROCESS_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_PROCESS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_store.h"
#include "http/ngx_http_vidgen_context.h"


/* What a worker process holds open for all requests. */

/* The module's init_process and exit_process. */
ngx_int_t ngx_http_vidgen_init_process(ngx_cycle_t *cycle);
void ngx_http_vidgen_exit_process(ngx_cycle_t *cycle);

/* The process's database; NULL: none configured, or none here. */
ngx_vidgen_store_t *ngx_http_vidgen_store(void);

/*
 * ngx_vidgen_store_start() with the time noted in ctx (may be NULL), for
 * $vidgen_db_time; NGX_BUSY also where there is no database.
 */
ngx_int_t ngx_http_vidgen_store_start(ngx_http_vidgen_ctx_t *ctx,
    ngx_vidgen_store_statement_e statement, ngx_vidgen_pg_call_t *call,
    void *params);

/* The call's handler was called: ends the time. */
void ngx_http_vidgen_store_done(ngx_http_vidgen_ctx_t *ctx);


#endif /* _NGX_HTTP_VIDGEN_PROCESS_H_INCLUDED_ */
