#ifndef _NGX_HTTP_VIDGEN_ATTEMPT_FILTER_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_ATTEMPT_FILTER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Where a location generates: a provider's answer that the other filters
 * cannot take (over the subrequest's buffer, or broken compression) is noted
 * as unread and dropped; otherwise nginx would take their error for one of
 * the client's connection and close it.
 */
ngx_int_t ngx_http_vidgen_attempt_filter_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_VIDGEN_ATTEMPT_FILTER_H_INCLUDED_ */
