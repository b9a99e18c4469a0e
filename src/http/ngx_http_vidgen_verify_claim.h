#ifndef _NGX_HTTP_VIDGEN_VERIFY_CLAIM_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_VERIFY_CLAIM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_event.h"


/*
 * The claim of a verified webhook in the zone while the application has it.
 * All zeros: none.
 */
typedef struct {
    ngx_vidgen_zone_t         *zone;
    ngx_vidgen_seen_claim_t    seen;
    ngx_vidgen_seen_value_t    value;
    u_char                     key[NGX_VIDGEN_SHA256_LEN];
    unsigned                   open:1;       /* passed on, no answer yet */
} ngx_http_vidgen_verify_claim_t;


/*
 * Claims a genuine event, identified by its event id, else by job id and
 * final status, else by its body; result NULL: nothing could be read from it.
 *   NGX_OK        the application has answered it 2xx before
 *   NGX_DECLINED  pass it on; ngx_http_vidgen_verify_end() is owed
 *   NGX_BUSY      the application has it right now
 *   NGX_ERROR
 */
ngx_int_t ngx_http_vidgen_verify_claim(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_vidgen_result_t *result,
    ngx_http_vidgen_verify_claim_t *claim);

/*
 * The application answered with that status, 0: not at all.  2xx makes the
 * event done, anything else forgets the claim.  1: it was open until now, so
 * a cleanup may always call it.
 */
ngx_uint_t ngx_http_vidgen_verify_end(ngx_http_vidgen_verify_claim_t *claim,
    ngx_uint_t status);


#endif /* _NGX_HTTP_VIDGEN_VERIFY_CLAIM_H_INCLUDED_ */
