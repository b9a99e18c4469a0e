#ifndef _NGX_HTTP_VIDGEN_LIVE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_LIVE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_operation.h"


/* What live traffic tells of providers and of the monitor. */

/* An attempt is over, its verdict is there: its provider's health. */
void ngx_http_vidgen_live_note(ngx_http_vidgen_operation_t *op);

/* Whether a candidate may be asked by now; a trial is taken by that. */
ngx_uint_t ngx_http_vidgen_live_admit(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_candidate_t *candidate);

/* Reports, once, that the monitor is silent. */
void ngx_http_vidgen_live_listen(ngx_http_vidgen_main_conf_t *mcf,
    ngx_log_t *log);


#endif /* _NGX_HTTP_VIDGEN_LIVE_H_INCLUDED_ */
