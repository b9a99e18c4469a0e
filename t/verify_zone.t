#!/usr/bin/perl

# vidgen_verify: the zone holds only what was genuine.  A flood of forged
# webhooks does not push out a single event, in a zone that has room for few;
# genuine ones push out the oldest, and a full zone holds nothing up.
#
# Not under valgrind: it counts what is there at the same time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX ();
use Test::More tests => 8;

use VidgenTest::Http qw(many request);
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $app = VidgenTest::Provider->new;
my $page = POSIX::sysconf(POSIX::_SC_PAGESIZE());

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url, SIZE => 8 * $page / 1024 },
    env  => { HOOK_SECRET => $app->secret },
    config => <<'EOT')->start;
%%GLOBALS%%

events { worker_connections 4096; }

http {
    %%HTTP%%

    vidgen_monitor  off;
    vidgen_zone     small:%%SIZE%%k;

    vidgen_provider p {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            vidgen_verify  p;
            proxy_pass     %%APP%%;
        }

        location /dry {
            vidgen_verify   p;
            vidgen_dry_run  on;
            proxy_pass      %%APP%%;
        }
    }
}
EOT

my $size = 400;                     # more than the zone has room for

is(status(id => 'first'), '200 new', 'a genuine webhook');
is(status(id => 'first'), '200 replay', 'its replay');

# forged ones leave nothing

my %forged = ('X-Signature' => 'f' x 64);
my @answers = many(map { ['POST', $nginx->url('/'), \%forged, "forged $_"] }
    1 .. $size);
is((grep { $_->{status} == 401 } @answers), $size, 'forged ones are refused');
@answers = many(map { ['POST', $nginx->url('/dry'), \%forged, "forged $_"] }
    1 .. $size);
is((grep { $_->{status} == 200 } @answers), $size, 'or passed on unverified');
is(status(id => 'first'), '200 replay', 'and push out nothing');

# genuine ones push out the oldest

many(map { [hook(id => "job-$_")] } 1 .. $size);
is(status(id => 'first'), '200 new', 'as many genuine ones do');

# more in flight than there is room for

$app->forget;
$app->answer(delay => 5);
@answers = many(map { [hook(id => "flight-$_")] } 1 .. $size);
is((grep { $_->{status} == 200 } @answers), $size,
    'a zone full of claims holds nothing up');
my @times = sort { $a <=> $b } map { $_->{time} } @{ $app->requests };
ok(@times == $size && $times[-1] - $times[0] < 5, 'all were there at once');


sub hook {
    my ($headers, $body) = $app->signed_webhook(@_);
    return ('POST', $nginx->url('/'), $headers, $body);
}

sub status {
    my $answer = request(hook(@_));
    return "$answer->{status} "
        . ($answer->{headers}{'x-idempotent-replay'} ? 'replay' : 'new');
}
