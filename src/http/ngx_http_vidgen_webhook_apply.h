#ifndef _NGX_HTTP_VIDGEN_WEBHOOK_APPLY_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_WEBHOOK_APPLY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_event.h"


/*
 * Parses a genuine event and applies it in the database.  NGX_DONE: the
 * answer comes with the database's, and the event's claim in the zone ends
 * there; anything else is for ngx_http_finalize_request(), and the claim is
 * the caller's to release.
 */
ngx_int_t ngx_http_vidgen_webhook_apply(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event);


#endif /* _NGX_HTTP_VIDGEN_WEBHOOK_APPLY_H_INCLUDED_ */
