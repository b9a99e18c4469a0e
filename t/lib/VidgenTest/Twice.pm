package VidgenTest::Twice;

# From the logs of the stand-ins alone: what was asked for twice.
#
#   is_deeply([asked_twice(\%requests, idempotent => ['a'])], []);
#
# %requests has the list of $provider->requests of each provider.  What
# belongs together is told by the prompt, what is one attempt by the header
# X-Attempt.  Further options: refused, a pattern of the URIs whose answers
# refuse, whatever their status.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP;

our @EXPORT_OK = qw(asked_twice);

# the answers that say that a provider has not taken a request
my %no = map { $_ => 1 } 300 .. 307, 400 .. 407, 409 .. 422, 429, 451, 500,
    501, 503;


# What was wrong, as sentences: a provider was asked again for what it may
# have; one that is idempotent may get the same attempt again.
sub asked_twice {
    my ($requests, %opt) = @_;

    my %idempotent = map { $_ => 1 } @{ $opt{idempotent} // [] };
    my @wrong;

    for my $provider (sort keys %$requests) {
        my %open;                   # prompt => attempt that it may have

        for my $request (@{ $requests->{$provider} }) {
            next unless $request->{body};
            my $prompt = JSON::PP->new->decode($request->{body})->{prompt};
            my $attempt = $request->{headers}{'x-attempt'};
            my $open = $open{$prompt};

            push @wrong, "$provider, $prompt: $attempt while $open is open"
                if defined $open
                    && !($idempotent{$provider} && $open eq $attempt);

            next if !defined $open && !$request->{dropped}
                && ($no{ $request->{answer} // 0 }
                    || $opt{refused} && $request->{uri} =~ $opt{refused});
            $open{$prompt} = $attempt;
        }
    }

    return @wrong;
}


1;
